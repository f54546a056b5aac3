// Structured logs: an event name and fields, one line an event on stderr. JSON for collectors,
// readable text for a terminal. Nothing here rotates, ships or stores logs: the platform does.
#pragma once

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace conclave::telemetry {

enum class Level : std::uint8_t { kTrace, kDebug, kInfo, kWarn, kError, kOff };
enum class LogFormat : std::uint8_t { kAuto, kJson, kText };

/// The names that settings and lines use; libs/config finds these by argument.
constexpr auto enum_names(Level /*tag*/) {
  using enum Level;
  using Name = std::pair<std::string_view, Level>;
  return std::to_array<Name>({{"trace", kTrace},
                              {"debug", kDebug},
                              {"info", kInfo},
                              {"warn", kWarn},
                              {"error", kError},
                              {"off", kOff}});
}
constexpr auto enum_names(LogFormat /*tag*/) {
  using enum LogFormat;
  using Name = std::pair<std::string_view, LogFormat>;
  return std::to_array<Name>({{"auto", kAuto}, {"json", kJson}, {"text", kText}});
}

struct LogSettings {
  Level level = Level::kInfo;
  LogFormat format = LogFormat::kAuto;

  template <class Visitor>
  void visit(Visitor&& v) {
    v("level", level, "Least severe level that is logged");
    v("format", format, "json, text, or auto: text on a terminal and json elsewhere");
  }
};

/// One field of an event. Borrows its text: it lives as long as the call that logs it.
class LogField {
 public:
  using Value = std::variant<std::string_view, std::int64_t, std::uint64_t, double, bool>;

  template <class T>
  requires std::convertible_to<const T&, std::string_view> || std::integral<T> ||
      std::floating_point<T>
      LogField(std::string_view key, const T& value) : key_(key), value_(of(value)) {}

  [[nodiscard]] std::string_view key() const { return key_; }
  [[nodiscard]] const Value& value() const { return value_; }

 private:
  template <class T>
  static Value of(const T& value) {
    if constexpr (std::convertible_to<const T&, std::string_view>) {
      return std::string_view(value);
    } else if constexpr (std::same_as<T, bool>) {
      return value;
    } else if constexpr (std::floating_point<T>) {
      return static_cast<double>(value);
    } else if constexpr (std::signed_integral<T>) {
      return static_cast<std::int64_t>(value);
    } else {
      return static_cast<std::uint64_t>(value);
    }
  }

  std::string_view key_;
  Value value_;
};

using LogFields = std::initializer_list<LogField>;

/// A cheap copy of a handle; every member may be called from any thread. A line is written before
/// the call returns. A call below the level costs one comparison. Text that is not UTF-8 is
/// repaired, and a value longer than kLogValueBytesMax is cut: a line stays a line.
///
///   log.info("expert_ready", {{"layer", 3}, {"expert", 7}, {"request_id", id}});
///   {"ts":"2026-01-31T12:00:01.000000Z","level":"info","logger":"router",
///    "event":"expert_ready","layer":3,"expert":7,"request_id":"req-1"}
class Logger {
 public:
  /// Receives whole lines without their line end, one at a time.
  using Write = std::function<void(std::string_view line)>;
  using Clock = std::function<std::chrono::system_clock::time_point()>;

  /// Logs nothing: for tests and for libraries used without a process around them.
  Logger() = default;

  /// On stderr, by the system's clock.
  static Logger create(std::string name, const LogSettings& settings);
  /// Through `write`, by `clock` (tests). kAuto means json.
  static Logger create(std::string name, const LogSettings& settings, Write write, Clock clock);

  /// `router` -> `router.dispatch`, with the same bound fields.
  [[nodiscard]] Logger named(std::string_view child) const;
  /// The same logger with `fields` in every line, after the event and before its own.
  [[nodiscard]] Logger with(LogFields fields) const;

  [[nodiscard]] bool enabled(Level level) const { return level >= level_; }

  void trace(std::string_view event, LogFields fields = {}) const {
    log(Level::kTrace, event, fields);
  }
  void debug(std::string_view event, LogFields fields = {}) const {
    log(Level::kDebug, event, fields);
  }
  void info(std::string_view event, LogFields fields = {}) const {
    log(Level::kInfo, event, fields);
  }
  void warn(std::string_view event, LogFields fields = {}) const {
    log(Level::kWarn, event, fields);
  }
  void error(std::string_view event, LogFields fields = {}) const {
    log(Level::kError, event, fields);
  }
  void log(Level level, std::string_view event, LogFields fields = {}) const {
    if (enabled(level) && level != Level::kOff) write(level, event, fields);
  }

 private:
  struct Output;  // where lines go, and how they look
  struct Scope;   // name and bound fields, rendered once

  Logger(std::shared_ptr<const Output> output, std::shared_ptr<const Scope> scope, Level level);
  void write(Level level, std::string_view event, LogFields fields) const;

  Level level_ = Level::kOff;
  std::shared_ptr<const Output> output_;
  std::shared_ptr<const Scope> scope_;
};

/// A prompt must not reach a log by accident, and collectors cut lines at 16 KiB and more.
inline constexpr std::size_t kLogValueBytesMax = 2048;

}  // namespace conclave::telemetry
