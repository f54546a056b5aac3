// Which file a gateway keeps its usage in. Several gateways may be given the same, as containers of
// one volume are; each has one of its own then, which no other reads or writes meanwhile.
#pragma once

#include <filesystem>

#include "conclave/base/result.hpp"

namespace conclave::gateway {

/// A value that holds a lock on FILE.lock, which ends with it or with its process. Any thread.
class UsageSpool {
 public:
  /// Takes `file`, or else FILE-2 and so on, the first that nobody holds: so what a gateway left
  /// behind goes to the next one that starts. Where no lock can be made, as in a folder that is not
  /// there, it is `file`, and saving says what is wrong. Empty: no file. kFailedPrecondition: as
  /// many gateways as there may be (64) hold one each.
  static base::Result<UsageSpool> claim(const std::filesystem::path& file);

  UsageSpool() = default;
  UsageSpool(UsageSpool&& other) noexcept;
  UsageSpool& operator=(UsageSpool&& other) noexcept;
  ~UsageSpool();

  [[nodiscard]] const std::filesystem::path& file() const { return file_; }

 private:
  static base::Result<UsageSpool> unlocked(const std::filesystem::path& file,
                                           const std::filesystem::path& tried);
  UsageSpool(std::filesystem::path file, int lock) : file_(std::move(file)), lock_(lock) {}

  std::filesystem::path file_;
  int lock_ = -1;
};

}  // namespace conclave::gateway
