#include "conclave/telemetry/metrics.hpp"

#include <prometheus/check_names.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <list>
#include <mutex>
#include <utility>

#include "conclave/base/check.hpp"
#include "conclave/base/text.hpp"

namespace conclave::telemetry {

void Counter::add(double n) {
  CONCLAVE_CHECK(n >= 0);
  counter_.Increment(n);
}
void Counter::raise_to(double total) {
  if (const double more = total - counter_.Value(); more > 0) counter_.Increment(more);
}
double Counter::value() const { return counter_.Value(); }

void Gauge::set(double value) { gauge_.Set(value); }
void Gauge::add(double n) { gauge_.Increment(n); }
double Gauge::value() const { return gauge_.Value(); }

void Histogram::observe(double value) { histogram_.Observe(value); }

std::vector<double> exponential_buckets(double first, double factor, std::size_t count) {
  CONCLAVE_CHECK(first > 0 && factor > 1);
  std::vector<double> bounds(count);
  for (double& bound : bounds) bound = std::exchange(first, first * factor);
  return bounds;
}

namespace {

// A label is a word in a dashboard, not a document; base::printable() cuts at 96 bytes.
Labels printable(const Labels& labels) {
  Labels shown;
  for (const auto& [name, value] : labels) {
    CONCLAVE_CHECK(prometheus::CheckLabelName(name));
    shown.emplace(name, base::printable(value));
  }
  return shown;
}

Labels all_other(Labels labels) {
  for (auto& [name, value] : labels) value = "other";
  return labels;
}

void check_name(const std::string& name) {
  CONCLAVE_CHECK(name.starts_with("conclave_") || name.starts_with("vllm:"));
  CONCLAVE_CHECK(prometheus::CheckMetricName(name));
}

// The series of one name. Nodes of the map stay where they are, so handles are references.
template <class Handle, class Metric>
struct Series {
  prometheus::Family<Metric>& family;
  std::map<Labels, Handle> handles;

  template <class... Arguments>
  Handle& at(Labels labels, const Arguments&... arguments) {
    if (const auto found = handles.find(labels); found != handles.end()) return found->second;
    if (handles.size() >= kSeriesPerNameMax) {
      labels = all_other(std::move(labels));
      if (const auto found = handles.find(labels); found != handles.end()) return found->second;
    }
    Metric& metric = family.Add(labels, arguments...);
    return handles.try_emplace(std::move(labels), metric).first->second;
  }
};

template <class Handle, class Metric>
using Names = std::map<std::string, Series<Handle, Metric>>;

}  // namespace

struct Metrics::Impl {
  std::mutex mutex;  // guards the five maps; prometheus-cpp guards its own
  prometheus::Registry registry;
  Names<Counter, prometheus::Counter> counters;
  Names<Gauge, prometheus::Gauge> gauges;
  Names<Histogram, prometheus::Histogram> histograms;
  std::map<std::string, prometheus::MetricFamily> tables;

  // Hooks run under their own lock: they set gauges and may even register new ones.
  std::mutex hooks_mutex;
  std::list<std::function<void()>> hooks;

  [[nodiscard]] bool is_known(const std::string& name) const {
    return counters.contains(name) || gauges.contains(name) || histograms.contains(name);
  }

  template <class Handle, class Metric, class Builder>
  Series<Handle, Metric>& series(Names<Handle, Metric>& names, Builder builder,
                                 const std::string& name, const std::string& help) {
    if (const auto found = names.find(name); found != names.end()) return found->second;
    check_name(name);
    CONCLAVE_CHECK(!is_known(name) && !tables.contains(name));
    auto& family = builder.Name(name).Help(help).Register(registry);
    return names.try_emplace(name, Series<Handle, Metric>{family, {}}).first->second;
  }
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter& Metrics::counter(const std::string& name, const std::string& help, const Labels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->series(impl_->counters, prometheus::BuildCounter(), name, help)
      .at(printable(labels));
}

Gauge& Metrics::gauge(const std::string& name, const std::string& help, const Labels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->series(impl_->gauges, prometheus::BuildGauge(), name, help).at(printable(labels));
}

Histogram& Metrics::histogram(const std::string& name, const std::string& help,
                              const std::vector<double>& buckets, const Labels& labels) {
  const std::lock_guard lock(impl_->mutex);
  return impl_->series(impl_->histograms, prometheus::BuildHistogram(), name, help)
      .at(printable(labels), buckets);
}

void Metrics::table(const std::string& name, const std::string& help,
                    const std::vector<Sample>& samples) {
  check_name(name);
  prometheus::MetricFamily family{name, help, prometheus::MetricType::Gauge, {}};
  family.metric.reserve(std::min(samples.size(), kSeriesPerNameMax));
  for (const Sample& sample : samples) {
    if (family.metric.size() == kSeriesPerNameMax) break;
    prometheus::ClientMetric& metric = family.metric.emplace_back();
    for (auto& [label, value] : printable(sample.labels)) metric.label.push_back({label, value});
    metric.gauge.value = sample.value;
  }
  const std::lock_guard lock(impl_->mutex);
  CONCLAVE_CHECK(!impl_->is_known(name));
  impl_->tables.insert_or_assign(name, std::move(family));
}

Metrics::ScrapeHook Metrics::on_scrape(std::function<void()> refresh) {
  const std::lock_guard lock(impl_->hooks_mutex);
  const auto place = impl_->hooks.insert(impl_->hooks.end(), std::move(refresh));
  return ScrapeHook(std::shared_ptr<void>(nullptr, [impl = impl_.get(), place](void*) {
    const std::lock_guard erase_lock(impl->hooks_mutex);
    impl->hooks.erase(place);
  }));
}

std::string Metrics::expose() const {
  {
    const std::lock_guard lock(impl_->hooks_mutex);
    for (const auto& refresh : impl_->hooks) refresh();
  }
  std::vector<prometheus::MetricFamily> families = impl_->registry.Collect();
  {
    const std::lock_guard lock(impl_->mutex);
    for (const auto& [name, family] : impl_->tables) families.push_back(family);
  }
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace conclave::telemetry
