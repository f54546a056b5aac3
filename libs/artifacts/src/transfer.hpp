// One GET of a range over libcurl: an attempt, without second tries. The only file that sees curl.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "conclave/artifacts/settings.hpp"
#include "conclave/artifacts/stop.hpp"
#include "conclave/base/result.hpp"

namespace conclave::artifacts {

struct Answer {
  long status = 0;
  std::optional<std::uint64_t> first;  // of Content-Range
  std::optional<std::uint64_t> total;  // of Content-Range, or Content-Length of a whole file
  std::string etag;                    // as sent; weak ones too
  std::string last_modified;
  std::string encoding;
};

struct Get {
  std::string url;
  std::vector<std::string> fields;  // "name: value"
  bool follows_redirects = false;
  /// Looks at the answer before its body comes; an error ends the transfer and is its outcome.
  std::function<base::Status(const Answer&)> on_answer;
  /// A piece of the body of an answer that on_answer took; false: enough, which is no error.
  std::function<base::Result<bool>(std::span<const std::byte>)> on_bytes;
  Stop stop;
};

/// Connections that are kept open for the next transfer. Any thread; as many at once as call.
class Transfers {
 public:
  explicit Transfers(const Settings& settings);
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  /// kUnavailable: no connection, one that broke or stalled, so that another try may help;
  /// kFailedPrecondition: trust or redirects; kInvalidArgument: an address that is none;
  /// kCancelled; what on_answer and on_bytes say.
  base::Status get(const Get& get);

 private:
  struct Handle;
  struct Running;

  std::unique_ptr<Handle> take();
  void give_back(std::unique_ptr<Handle> handle);
  void prepare(Handle& handle, const Get& get, Running& running) const;

  const Settings settings_;
  std::mutex mutex_;  // guards idle_
  std::vector<std::unique_ptr<Handle>> idle_;
};

}  // namespace conclave::artifacts
