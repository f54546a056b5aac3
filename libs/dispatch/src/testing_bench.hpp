// What tests of RemoteExperts share: the last layer of a model, workers of this process, and a
// network between them that is slow, loses links and has its own time, as a test says.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conclave/base/thread_pool.hpp"
#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/model/local_experts.hpp"
#include "conclave/testkit/direct_worker.hpp"
#include "conclave/testkit/placement.hpp"

namespace conclave::dispatch::testing_bench {

/// Passes calls on to workers of this process, and their answers back when it is time. Its clock
/// goes on only while somebody polls. One thread.
class SlowNetwork final : public fabric::Calls {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using Duration = std::chrono::nanoseconds;

  explicit SlowNetwork(fabric::Calls& real) : real_(real) {}

  [[nodiscard]] Time now() const { return now_; }
  void pass(Duration time) { now_ += time; }

  /// How long answers of this worker take from now on, those under way too.
  void delay(const std::string& worker, Duration delay) { delays_["direct://" + worker] = delay; }
  /// It says nothing until it is thawed, though its link stays up.
  void freeze(const std::string& worker) { delay(worker, kNever); }
  void thaw(const std::string& worker) { delay(worker, {}); }
  /// Its link is gone; what is under way is lost.
  void cut(const std::string& worker) { cut_.push_back("direct://" + worker); }
  void mend(const std::string& worker) { std::erase(cut_, "direct://" + worker); }

  base::Result<fabric::DataLinkId> connect(const std::string& address) override {
    auto link = real_.connect(address);
    if (link) addresses_[*link] = address;
    return link;
  }
  void disconnect(fabric::DataLinkId link) override {
    std::erase_if(held_, [&](const Held& held) { return held.event.link == link; });
    addresses_.erase(link);
    real_.disconnect(link);
  }
  [[nodiscard]] bool is_up(fabric::DataLinkId link) const override {
    return real_.is_up(link) && !is_cut(link);
  }
  [[nodiscard]] bool is_near(fabric::DataLinkId /*link*/) const override { return false; }
  base::Result<fabric::CallBuffer> prepare(fabric::DataLinkId link,
                                           const wire::ExpertCall& call) override {
    if (is_cut(link)) return base::fail(base::ErrorCode::kUnavailable, "cut");
    return real_.prepare(link, call);
  }
  void send(fabric::CallId id, const wire::TraceContext& trace, Time deadline) override {
    sent_[id] = {now_, deadline};
    real_.send(id, trace, Time::max());
  }
  void cancel(fabric::CallId id) override { real_.cancel(id); }
  void release(fabric::CallId id) override { real_.release(id); }
  void wake() override { real_.wake(); }

  std::span<const fabric::CallEvent> poll(Time until) override {
    told_.clear();
    for (const fabric::CallEvent& event : real_.poll(Time::min())) {
      if (event.kind == fabric::CallEvent::Kind::kReply) {
        held_.push_back({event, sent_.at(event.call).at, sent_.at(event.call).deadline});
      } else {
        told_.push_back(event);
      }
    }
    tell_of_links();
    take_due();
    if (told_.empty() && until > now_) {
      Time next = until;
      for (const Held& held : held_) next = std::min(next, due(held));
      now_ = next;
      take_due();
    }
    return told_;
  }

 private:
  static constexpr Duration kNever = std::chrono::hours(100'000);

  struct Sent {
    Time at, deadline;
  };
  struct Held {
    fabric::CallEvent event;
    Time sent, deadline;
  };

  [[nodiscard]] bool is_cut(fabric::DataLinkId link) const {
    const auto address = addresses_.find(link);
    return address != addresses_.end() && std::ranges::find(cut_, address->second) != cut_.end();
  }
  [[nodiscard]] Time due(const Held& held) const {
    const auto delay = delays_.find(addresses_.at(held.event.link));
    const Time answer = held.sent + (delay == delays_.end() ? kUsual : delay->second);
    return std::max(now_, std::min(answer, held.deadline));
  }
  void tell_of_links() {
    for (const auto& [link, address] : addresses_) {
      const bool down = is_cut(link);
      if (down && !std::exchange(told_cut_[link], true)) {
        fabric::CallEvent event;
        event.kind = fabric::CallEvent::Kind::kDown;
        event.link = link;
        told_.push_back(event);
        for (Held& held : held_) {
          if (held.event.link == link) fail(held, base::ErrorCode::kUnavailable);
        }
        std::erase_if(held_, [l = link](const Held& held) { return held.event.link == l; });
      } else if (!down && std::exchange(told_cut_[link], false)) {
        fabric::CallEvent event;
        event.kind = fabric::CallEvent::Kind::kUp;
        event.link = link;
        told_.push_back(event);
      }
    }
  }
  void take_due() {
    std::erase_if(held_, [&](Held& held) {
      if (due(held) > now_) return false;
      const auto delay = delays_.find(addresses_.at(held.event.link));
      const bool frozen = delay != delays_.end() && delay->second == kNever;
      if (frozen && now_ >= held.deadline) {
        fail(held, base::ErrorCode::kDeadlineExceeded);
      } else {
        told_.push_back(held.event);
      }
      return true;
    });
  }
  void fail(Held& held, base::ErrorCode code) {
    real_.release(held.event.call);
    held.event.kind = fabric::CallEvent::Kind::kFailed;
    held.event.payload = {};
    held.event.error = {code, "simulated"};
    told_.push_back(held.event);
  }

  static constexpr Duration kUsual = std::chrono::microseconds(100);

  fabric::Calls& real_;
  Time now_ = Time(std::chrono::hours(1));
  std::map<fabric::DataLinkId, std::string> addresses_;
  std::map<fabric::DataLinkId, bool> told_cut_;
  std::map<std::string, Duration> delays_;
  std::vector<std::string> cut_;
  std::map<fabric::CallId, Sent> sent_;
  std::vector<Held> held_;
  std::vector<fabric::CallEvent> told_;
};

inline constexpr std::uint32_t kRows = 7;

/// Rows of numbers that nobody chose, the same in every run.
inline std::vector<float> some_rows(std::size_t count) {
  std::vector<float> values(count);
  std::uint32_t state = 12345;
  for (float& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<float>(state >> 8) / 8388608.0f - 1.0f;
  }
  return values;
}

// The last layer of a model in this thread's hands, and workers of this process.
class Bench {
 public:
  explicit Bench(const std::string& model, std::uint32_t reload_wait_ms = 20'000)
      : Bench(model, {.call_timeout_ms = 5'000, .reload_wait_ms = reload_wait_ms}, false) {}
  /// `simulated`: calls go through network(), in its time.
  Bench(const std::string& model, const DispatchSettings& settings, bool simulated)
      : path_(CONCLAVE_SOURCE_DIR "/tests/golden/models/" + model + ".gguf"),
        file_(*gguf::File::open(path_)),
        config_(*model::read_config(file_)),
        version_(testkit::version_of(path_)),
        compute_{kernels::kernel_table(kernels::best_isa()), pool_},
        whole_(*model::LocalExperts::load(file_, config_, compute_, {})),
        context_(*fabric::Context::create(std::nullopt, {}, metrics_)),
        client_(*fabric::CallClient::create(*context_, "router", 1, {})),
        network_(*client_),
        remote_(std::make_unique<RemoteExperts>(
            config_, *model::row_forms(file_, config_), compute_,
            simulated ? static_cast<fabric::Calls&>(network_) : *client_, settings, metrics_,
            telemetry::Logger(),
            simulated ? RemoteExperts::Now([this] { return network_.now(); })
                      : RemoteExperts::Now(std::chrono::steady_clock::now))),
        layer_(config_.layers - 1),
        x_(some_rows(std::size_t{kRows} * config_.hidden)) {
    for (std::uint32_t row = 0; row < kRows; ++row) {
      for (std::uint32_t k = 0; k < config_.gate.used; ++k) {
        pairs_.push_back({row, (row * 3 + k * 5) % config_.gate.experts});
      }
    }
  }

  RemoteExperts& remote() { return *remote_; }
  SlowNetwork& network() { return network_; }
  const wire::ModelVersion& version() const { return version_; }
  const model::ModelConfig& config() const { return config_; }

  testkit::DirectWorker& worker(const std::string& name) {
    auto& worker = workers_[name];
    if (!worker) {
      worker =
          std::make_unique<testkit::DirectWorker>(*context_, name, compute_, version_, config_);
    }
    return *worker;
  }
  /// A worker with all experts.
  testkit::DirectWorker& full_worker(const std::string& name) {
    worker(name).host_all(file_);
    return worker(name);
  }
  void end_worker(const std::string& name) { workers_.erase(name); }

  /// Expert e belongs to worker e % count, and to the next ones as replicas; they get it.
  void spread(std::size_t count, std::size_t replicas,
              wire::DegradedPolicy policy = wire::DegradedPolicy::kWait) {
    std::vector<wire::WorkerEndpoint> endpoints;
    for (std::size_t i = 0; i < count; ++i) {
      const std::string name(1, static_cast<char>('a' + i));
      worker(name);
      endpoints.push_back(workers_.at(name)->endpoint());
    }
    auto spread = *table(endpoints, [&](std::uint32_t layer, std::uint32_t expert) {
      std::vector<std::uint16_t> pool;
      for (std::size_t r = 0; r < replicas; ++r) {
        const std::size_t owner = (expert + r) % count;
        worker(endpoints[owner].node).host(file_, {layer, expert});
        pool.push_back(static_cast<std::uint16_t>(owner));
      }
      return pool;
    });
    spread.policy = policy;
    remote_->update(std::make_shared<const wire::RoutingTable>(std::move(spread)));
  }

  /// A newer table than all before.
  std::shared_ptr<const wire::RoutingTable> table(std::vector<wire::WorkerEndpoint> endpoints,
                                                  const testkit::Pools& pools) {
    return std::make_shared<const wire::RoutingTable>(
        testkit::table_of(++epoch_, version_, config_, std::move(endpoints), pools));
  }
  std::shared_ptr<const wire::RoutingTable> table(const wire::WorkerEndpoint& endpoint) {
    return std::make_shared<const wire::RoutingTable>(
        testkit::table_of(++epoch_, version_, config_, endpoint));
  }

  base::Result<std::vector<float>> run(model::ExpertBackend& backend) {
    std::vector<const float*> outputs(pairs_.size());
    CONCLAVE_TRY_VOID(backend.run(layer_, x_.data(), kRows, pairs_, outputs));
    return numbers(outputs);
  }
  /// run() in its halves.
  void start(std::size_t batch) { remote_->start(batch, layer_, x_.data(), kRows, pairs_); }
  base::Result<std::vector<float>> finish(std::size_t batch) {
    std::vector<const float*> outputs(pairs_.size());
    CONCLAVE_TRY_VOID(remote_->finish(batch, outputs));
    return numbers(outputs);
  }
  base::Result<std::vector<float>> run() { return run(*remote_); }

  void expect_same_bits(const base::Result<std::vector<float>>& got) {
    ASSERT_TRUE(got) << got.error().to_string();
    const auto expected = run(*whole_);
    ASSERT_EQ(got->size(), expected->size());
    EXPECT_EQ(std::memcmp(got->data(), expected->data(), got->size() * sizeof(float)), 0);
  }
  void expect_same_bits() { expect_same_bits(run()); }

  double counted(const std::string& name) {
    return metrics_.counter("conclave_router_expert_" + name + "_total", "").value();
  }
  /// Of the layer that runs.
  std::span<const std::uint8_t> absent() const { return remote_->absent(layer_); }
  [[nodiscard]] std::uint32_t layer() const { return layer_; }
  /// The next runs ask for these experts, of each row.
  void ask_for(const std::vector<std::uint32_t>& experts) {
    pairs_.clear();
    for (std::uint32_t row = 0; row < kRows; ++row) {
      for (const std::uint32_t expert : experts) pairs_.push_back({row, expert});
    }
  }

 private:
  std::vector<float> numbers(std::span<const float* const> outputs) const {
    std::vector<float> all;
    for (const float* output : outputs) all.insert(all.end(), output, output + config_.hidden);
    return all;
  }

  std::string path_;
  gguf::File file_;
  model::ModelConfig config_;
  wire::ModelVersion version_;
  base::ThreadPool pool_{2};
  kernels::Compute compute_;
  std::unique_ptr<model::LocalExperts> whole_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> context_;
  std::map<std::string, std::unique_ptr<testkit::DirectWorker>> workers_;
  std::unique_ptr<fabric::CallClient> client_;
  SlowNetwork network_;
  std::unique_ptr<RemoteExperts> remote_;
  std::uint64_t epoch_ = 0;
  std::uint32_t layer_ = 0;
  std::vector<float> x_;
  std::vector<model::ExpertPair> pairs_;
};

}  // namespace conclave::dispatch::testing_bench
