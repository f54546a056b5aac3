#include "conclave/telemetry/progress_bar.hpp"

#include <unistd.h>

#include <cstdio>
#include <utility>

namespace conclave::telemetry {
namespace {

constexpr std::size_t kWidth = 30;  // with label and figures a line stays below 80 columns

ProgressBar::Sink terminal_sink() {
  if (::isatty(STDERR_FILENO) == 0) return {};
  return [](const std::string& text) {
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
  };
}

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : ProgressBar(
          std::move(label), [] { return std::chrono::steady_clock::now(); }, terminal_sink()) {}

ProgressBar::ProgressBar(std::string label, Clock clock, Sink sink)
    : label_(std::move(label)),
      clock_(std::move(clock)),
      sink_(std::move(sink)),
      start_(clock_()),
      drawn_(start_) {}

ProgressBar::~ProgressBar() { wipe(); }

void ProgressBar::update(std::size_t done, std::size_t total) {
  using namespace std::chrono_literals;
  if (!sink_ || total == 0) return;
  const auto now = clock_();
  if (now - start_ < 500ms || (visible_ && now - drawn_ < 100ms)) return;
  drawn_ = now;
  visible_ = true;
  const std::size_t filled = done >= total ? kWidth : done * kWidth / total;
  std::string line = "\r" + label_ + " [" + std::string(filled, '#') +
                     std::string(kWidth - filled, ' ') + "] " +
                     std::to_string(done >= total ? 100 : done * 100 / total) + "%";
  if (done > 0 && done < total) {
    const auto left = (now - start_) * (total - done) / done;
    line += ", " + std::to_string(std::chrono::duration_cast<std::chrono::seconds>(left).count()) +
            " s left";
  }
  sink_(line + "\033[K");
}

void ProgressBar::wipe() {
  if (visible_) sink_("\r\033[K");
  visible_ = false;
}

}  // namespace conclave::telemetry
