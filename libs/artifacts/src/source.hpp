// One file at a remote place, read by ranges: with second tries, from where a transfer broke, and
// never a mix of two states of the file.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "conclave/artifacts/location.hpp"
#include "conclave/artifacts/settings.hpp"
#include "conclave/base/result.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "transfer.hpp"

namespace conclave::artifacts {

using WallClock = std::function<std::chrono::system_clock::time_point()>;

/// What sources share; must outlive them.
struct SourceContext {
  SourceContext(const Settings& chosen, WallClock clock, telemetry::Metrics& metrics);

  const Settings settings;
  const WallClock wall_clock;
  Transfers transfers;
  telemetry::Counter& bytes;
  telemetry::Counter& retries;
};

/// Any thread; reads run beside each other.
class Source {
 public:
  /// Takes bytes in order; an error ends the read and is its outcome.
  using Sink = std::function<base::Status(std::span<const std::byte>)>;

  /// Asks for the file's size and state. kNotFound; kFailedPrecondition: no right to it, or too
  /// many redirects; kUnavailable, after the retries that the settings allow; kUnimplemented: the
  /// server sends it encoded or does not say its size; kCancelled.
  static base::Result<std::unique_ptr<Source>> open(SourceContext& context,
                                                    const Location& location, const Stop& stop);

  [[nodiscard]] const Location& location() const { return location_; }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Whether it can be read by ranges. If not, a read begins at the first byte behind the scenes.
  [[nodiscard]] bool has_ranges() const { return has_ranges_; }
  /// The strong ETag: names one state of the file for ever. Empty: there is none.
  [[nodiscard]] const std::string& etag() const { return etag_; }

  /// Bytes [offset, offset + size), which must be within the file. Errors as open();
  /// kFailedPrecondition: the file is another one by now.
  base::Status read(std::uint64_t offset, std::uint64_t size, const Sink& sink,
                    const Stop& stop) const;

 private:
  Source(SourceContext& context, const Location& location)
      : context_(context), location_(location) {}

  struct Reading;

  base::Status ask(const Stop& stop);
  base::Status attempt(Reading& reading) const;
  base::Status check(const Answer& answer, Reading& reading) const;
  [[nodiscard]] base::Status check_state(const Answer& answer) const;
  [[nodiscard]] base::Result<Get> request(std::uint64_t offset, std::uint64_t size,
                                          const Stop& stop) const;
  [[nodiscard]] base::Result<std::vector<std::string>> sign_s3(Get& get, std::string range) const;
  /// `attempt` until it works or may not be tried again; it says how far it has come by now.
  base::Status persist(const std::function<base::Status()>& attempt,
                       const std::function<std::uint64_t()>& progress, const Stop& stop) const;

  SourceContext& context_;
  const Location location_;
  std::uint64_t size_ = 0;
  bool has_ranges_ = false;
  std::string etag_;
  std::string last_modified_;
};

}  // namespace conclave::artifacts
