#include "conclave/telemetry/log.hpp"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <iterator>
#include <mutex>
#include <utility>

#include "line.hpp"

namespace conclave::telemetry {
namespace {

// The time is spdlog's to print: it caches everything but the fraction.
constexpr const char* kJsonPattern = R"({"ts":"%Y-%m-%dT%H:%M:%S.%fZ",%v})";
constexpr const char* kTextPattern = "%H:%M:%S %v";

class CallbackSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit CallbackSink(Logger::Write write) : write_(std::move(write)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_(std::string_view(line.data(), line.size()));
  }
  void flush_() override {}

  const Logger::Write write_;
};

std::string_view name_of(Level level) {
  return enum_names(Level{})[static_cast<std::size_t>(level)].first;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kTrace:
      return spdlog::level::trace;
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

}  // namespace

struct Logger::Output {
  // spdlog's log calls are not const, though safe from any thread.
  mutable spdlog::logger sink;
  bool is_text;
  Clock clock;  // empty: the system's, read by spdlog

  Output(spdlog::sink_ptr destination, bool text, const char* line_end, Clock the_clock)
      : sink("", std::move(destination)), is_text(text), clock(std::move(the_clock)) {
    sink.set_level(spdlog::level::trace);
    sink.set_formatter(std::make_unique<spdlog::pattern_formatter>(
        text ? kTextPattern : kJsonPattern,
        text ? spdlog::pattern_time_type::local : spdlog::pattern_time_type::utc, line_end));
  }
};

struct Logger::Scope {
  std::string name;
  std::string bound;  // as it stands in a line, after the event
};

Logger::Logger(std::shared_ptr<const Output> output, std::shared_ptr<const Scope> scope,
               Level level)
    : level_(level), output_(std::move(output)), scope_(std::move(scope)) {}

Logger Logger::create(std::string name, const LogSettings& settings) {
  const bool is_text = settings.format == LogFormat::kText ||
                       (settings.format == LogFormat::kAuto && ::isatty(STDERR_FILENO) == 1);
  return {std::make_shared<Output>(std::make_shared<spdlog::sinks::stderr_sink_mt>(), is_text, "\n",
                                   Clock()),
          std::make_shared<Scope>(Scope{std::move(name), {}}), settings.level};
}

Logger Logger::create(std::string name, const LogSettings& settings, Write write, Clock clock) {
  return {std::make_shared<Output>(std::make_shared<CallbackSink>(std::move(write)),
                                   settings.format == LogFormat::kText, "", std::move(clock)),
          std::make_shared<Scope>(Scope{std::move(name), {}}), settings.level};
}

Logger Logger::named(std::string_view child) const {
  if (!output_) return {};
  return {output_,
          std::make_shared<Scope>(Scope{scope_->name + "." + std::string(child), scope_->bound}),
          level_};
}

Logger Logger::with(LogFields fields) const {
  if (!output_) return {};
  auto scope = std::make_shared<Scope>(*scope_);
  (output_->is_text ? append_text_fields : append_json_fields)(scope->bound, fields);
  return {output_, std::move(scope), level_};
}

void Logger::write(Level level, std::string_view event, LogFields fields) const {
  std::string line;
  if (output_->is_text) {
    fmt::format_to(std::back_inserter(line), "{:5} {}  ", name_of(level), scope_->name);
    append_word(line, event);
    line += scope_->bound;
    append_text_fields(line, fields);
  } else {
    fmt::format_to(std::back_inserter(line), R"("level":"{}","logger":)", name_of(level));
    append_quoted(line, scope_->name);
    line += R"(,"event":)";
    append_quoted(line, event);
    line += scope_->bound;
    append_json_fields(line, fields);
  }
  if (output_->clock) {
    output_->sink.log(output_->clock(), spdlog::source_loc{}, to_spdlog(level), line);
  } else {
    output_->sink.log(to_spdlog(level), line);
  }
}

}  // namespace conclave::telemetry
