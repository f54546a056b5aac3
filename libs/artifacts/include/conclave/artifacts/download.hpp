// A model that is read once from its first byte to its last, as when it is registered: bytes come
// while those before them are summed, and go when they were.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "conclave/base/result.hpp"
#include "conclave/gguf/file.hpp"

namespace conclave::artifacts {

/// Made by Store::download. wait() and passed() may be called from any threads.
class Download {
 public:
  virtual ~Download() = default;  // ends the transfer

  struct Part {
    std::string uri;
    std::uint64_t size = 0;
    std::string etag;  // strong: the same for the same bytes for ever; empty: there is none
  };

  /// With its header; the rest has bytes as far as wait() said so.
  [[nodiscard]] virtual const gguf::File& file() const = 0;
  /// In their order.
  [[nodiscard]] virtual const std::vector<Part>& parts() const = 0;

  /// Waits for bytes, and for all those before them; the first call begins the transfer. Errors as
  /// Image::fetch, the same ones from then on.
  virtual base::Status wait(const gguf::ByteRange& range) = 0;

  /// Nobody will read what is before this place any more: its room on the disk is free again.
  virtual void passed(std::uint32_t part, std::uint64_t offset) = 0;
};

}  // namespace conclave::artifacts
