// Counters, gauges and histograms of one process, in the Prometheus text format. Serving them is
// the business of libs/app; nothing here opens a socket or starts a thread.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace conclave::telemetry {

/// Label name -> value. Names are ours ([a-z_][a-z0-9_]*); values may be anybody's: text that is
/// not UTF-8 is repaired, long text is cut.
using Labels = std::map<std::string, std::string>;

/// Only rises. Lock-free; any thread.
class Counter {
 public:
  explicit Counter(prometheus::Counter& counter) : counter_(counter) {}
  /// `n` >= 0.
  void add(double n = 1);
  /// To what somebody else counts; a number below what it shows changes nothing. One thread at a
  /// time.
  void raise_to(double total);
  [[nodiscard]] double value() const;

 private:
  prometheus::Counter& counter_;
};

/// Goes up and down. Lock-free; any thread.
class Gauge {
 public:
  explicit Gauge(prometheus::Gauge& gauge) : gauge_(gauge) {}
  void set(double value);
  void add(double n);
  [[nodiscard]] double value() const;

 private:
  prometheus::Gauge& gauge_;
};

/// Any thread; a short lock.
class Histogram {
 public:
  explicit Histogram(prometheus::Histogram& histogram) : histogram_(histogram) {}
  void observe(double value);

 private:
  prometheus::Histogram& histogram_;
};

/// `count` upper bounds, each `factor` times the one before: 0.001, 2, 10 -> 1 ms to 512 ms.
std::vector<double> exponential_buckets(double first, double factor, std::size_t count);

/// Series of one name. Beyond it every label value becomes "other", so that labels taken from
/// requests cannot fill the memory. Experts of the largest open models: 61 layers x 256 = 15,616.
inline constexpr std::size_t kSeriesPerNameMax = 16384;

inline constexpr std::string_view kExpositionContentType =
    "text/plain; version=0.0.4; charset=utf-8";

/// All metrics of a process; owned by its main. Any thread. Handles live as long as this object;
/// asking again for the same name and labels gives the same handle, so keep the reference: a
/// look-up takes a lock. A name without the prefix `conclave_` or `vllm:`, or one used with another
/// type, is a bug of ours and aborts.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  Counter& counter(const std::string& name, const std::string& help, const Labels& labels = {});
  Gauge& gauge(const std::string& name, const std::string& help, const Labels& labels = {});
  /// `buckets`: upper bounds, rising; +Inf is added.
  Histogram& histogram(const std::string& name, const std::string& help,
                       const std::vector<double>& buckets, const Labels& labels = {});

  /// One gauge of a table.
  struct Sample {
    Labels labels;
    double value = 0;
  };
  /// Gauges that are known as a whole: they take the place of all that the name had, so that what
  /// is gone (a model, its experts) is not shown for ever. Beyond kSeriesPerNameMax: left out.
  void table(const std::string& name, const std::string& help, const std::vector<Sample>& samples);

  /// Keeps a function registered while it lives; must not outlive the Metrics.
  class ScrapeHook {
   public:
    ScrapeHook() = default;
    explicit ScrapeHook(std::shared_ptr<void> hook) : hook_(std::move(hook)) {}

   private:
    std::shared_ptr<void> hook_;
  };
  /// Calls `refresh` before every exposition, on the thread that asks for it: for gauges that cost
  /// something to compute. It must not expose() itself.
  [[nodiscard]] ScrapeHook on_scrape(std::function<void()> refresh);

  /// The Prometheus text format 0.0.4 (kExpositionContentType).
  [[nodiscard]] std::string expose() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::telemetry
