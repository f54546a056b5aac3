// Where a model's file is, as people write it: an absolute path or the same after file://, an
// address of http:// or https://, or s3://BUCKET/KEY.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "conclave/base/result.hpp"

namespace conclave::artifacts {

/// As wire::kUriBytesMax: a version's address goes through messages.
inline constexpr std::size_t kUriBytesMax = 4096;

/// A value; nothing was asked of anybody yet.
class Location {
 public:
  enum class Scheme : std::uint8_t { kFile, kHttp, kS3 };  // kHttp: https too

  /// kInvalidArgument: a relative path (relative to whom?), another scheme, an address with a name
  /// and a password (it would be recorded, and shown to everybody), control characters, too long.
  static base::Result<Location> parse(std::string_view uri);

  [[nodiscard]] Scheme scheme() const { return scheme_; }
  [[nodiscard]] bool is_remote() const { return scheme_ != Scheme::kFile; }
  /// As it is recorded: the path without file://, else the whole address. The same place may have
  /// several.
  [[nodiscard]] const std::string& text() const { return text_; }
  /// What messages and logs may show: without the query, where addresses carry signatures.
  [[nodiscard]] std::string shown() const;

  /// kFile.
  [[nodiscard]] std::filesystem::path path() const { return text_; }
  /// kS3; the key is not encoded.
  [[nodiscard]] std::string bucket() const;
  [[nodiscard]] std::string key() const;

  /// The last part of the path: what a file that does not name itself is called by.
  [[nodiscard]] std::string file_name() const;
  /// The same place with another end of its file name; kNotFound if it does not end in `end`.
  [[nodiscard]] base::Result<Location> with_end(std::string_view end, std::string_view other) const;

  friend bool operator==(const Location&, const Location&) = default;

 private:
  Location(Scheme scheme, std::string text) : scheme_(scheme), text_(std::move(text)) {}
  /// Where the query or fragment of an address begins.
  [[nodiscard]] std::size_t path_end() const;

  Scheme scheme_ = Scheme::kFile;
  std::string text_;
};

/// Whether it is an address and not a path.
bool has_scheme(std::string_view uri);

}  // namespace conclave::artifacts
