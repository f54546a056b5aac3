// A file that appears under its name complete or not at all. Private to the library.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

#include "conclave/base/result.hpp"

namespace conclave::gguf {

/// Written beside its final path under a temporary name; `commit` makes it durable and renames it.
/// Destroyed without commit, it leaves nothing behind. Errors: kNotFound (no such directory),
/// kUnavailable (the system's reason).
class OutputFile {
 public:
  static base::Result<OutputFile> create(const std::filesystem::path& path);

  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();

  base::Status append(std::span<const std::byte> bytes);
  base::Status commit();

 private:
  OutputFile(int descriptor, std::filesystem::path temporary, std::filesystem::path path);

  int descriptor_ = -1;  // -1: moved from or closed
  std::filesystem::path temporary_;
  std::filesystem::path path_;
};

}  // namespace conclave::gguf
