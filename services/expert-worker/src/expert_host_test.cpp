#include "expert_host.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "conclave/dispatch/remote_experts.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/testkit/events.hpp"
#include "conclave/testkit/key_directory.hpp"
#include "testing_model.hpp"

namespace conclave::expert_worker {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

// Waits that end by themselves where a router is told that nobody computes.
constexpr std::uint32_t kImpatient = 1;

// A router on a thread of its own, linked to one worker.
class Router {
 public:
  Router(const testkit::KeyDirectory& keys, const std::string& name, const TestModel& model,
         const wire::ModelVersion& version, const std::string& address,
         std::uint32_t reload_wait_ms = 30'000)
      : context_(*fabric::Context::create(keys.ring(wire::NodeRole::kRouter), {}, metrics_)),
        client_(*fabric::CallClient::create(*context_, name, 1, {})),
        remote_(std::make_unique<dispatch::RemoteExperts>(
            model.config, *model::row_forms(model.file, model.config), model.compute->compute(),
            *client_,
            dispatch::DispatchSettings{.call_timeout_ms = 30'000, .reload_wait_ms = reload_wait_ms},
            metrics_, telemetry::Logger())) {
    remote_->update(std::make_shared<const wire::RoutingTable>(
        testkit::table_of(1, version, model.config, {"worker", 1, address})));
  }

  fabric::CallClient& client() { return *client_; }
  dispatch::RemoteExperts& remote() { return *remote_; }

 private:
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> context_;
  std::unique_ptr<fabric::CallClient> client_;
  std::unique_ptr<dispatch::RemoteExperts> remote_;
};

// A worker on the test's thread, which decides when what is computed.
class ExpertHostTest : public ::testing::TestWithParam<const char*> {
 protected:
  using Outputs = base::Result<std::vector<float>>;

  void SetUp() override {
    model_ = std::make_unique<TestModel>(GetParam());
    context_ = *fabric::Context::create(keys_.ring(wire::NodeRole::kExpertWorker), {}, metrics_);
    server_ = *fabric::CallServer::create(*context_, "worker", 1, {}, {});
    address_ = *server_->listen("tcp://127.0.0.1:0");
    host_ = std::make_unique<ExpertHost>(model_->compute->compute());
    host_->open(model_->version, model_->config);
    for (std::uint32_t index = 0; index < model_->config.gate.experts; ++index) {
      const model::ExpertId id{layer(), index};
      ASSERT_TRUE(host_->insert(model_->version, id, model_->expert(id)));
    }
  }

  [[nodiscard]] std::uint32_t layer() const { return model_->last_layer(); }

  Router& router(const wire::ModelVersion& version, std::uint32_t reload_wait_ms = 30'000) {
    const std::string name = "router-" + std::to_string(routers_.size());
    // Linked when it returns.
    Router& router = *routers_.emplace_back(
        std::make_unique<Router>(keys_, name, *model_, version, address_, reload_wait_ms));
    while (!router.remote().reachable()) {
      const auto came = server_->poll(Clock::now() + std::chrono::milliseconds(1));
      waiting_.insert(waiting_.end(), came.begin(), came.end());
      router.remote().maintain(Clock::now() + std::chrono::milliseconds(1));
    }
    return router;
  }

  std::future<Outputs> start(Router& router, const LayerWork& work, std::uint32_t layer) {
    return std::async(std::launch::async, [this, &router, &work, layer] {
      return work.run(router.remote(), layer, model_->config.hidden);
    });
  }

  // Takes calls in until so many wait.
  void gather(std::size_t calls) {
    const auto give_up = Clock::now() + testkit::kPatience;
    while (waiting_.size() < calls && Clock::now() < give_up) {
      const auto came = server_->poll(give_up);
      waiting_.insert(waiting_.end(), came.begin(), came.end());
    }
    ASSERT_EQ(waiting_.size(), calls);
  }

  void serve_all() {
    while (!waiting_.empty()) host_->serve_next(waiting_, *server_);
  }

  // Serves whatever comes until the router has its outputs.
  Outputs finish(std::future<Outputs> outputs) {
    while (outputs.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
      const auto came = server_->poll(Clock::now() + std::chrono::milliseconds(1));
      waiting_.insert(waiting_.end(), came.begin(), came.end());
      serve_all();
    }
    return outputs.get();
  }

  void expect_bits_of_whole(const Outputs& got, const LayerWork& work, std::uint32_t layer) {
    ASSERT_TRUE(got) << got.error().to_string();
    const Outputs expected = work.run(*model_->whole, layer, model_->config.hidden);
    ASSERT_EQ(got->size(), expected->size());
    EXPECT_EQ(std::memcmp(got->data(), expected->data(), got->size() * sizeof(float)), 0);
  }

  std::unique_ptr<TestModel> model_;
  testkit::KeyDirectory keys_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> context_;
  std::unique_ptr<fabric::CallServer> server_;
  std::string address_;
  std::unique_ptr<ExpertHost> host_;
  ExpertHost::Calls waiting_;
  std::vector<std::unique_ptr<Router>> routers_;
};

TEST_P(ExpertHostTest, CallsOfSeveralRoutersTogetherGiveTheBitsOfEachAlone) {
  const std::vector<LayerWork> works{
      {model_->config, 7, 1}, {model_->config, 1, 2}, {model_->config, 33, 3}};
  std::vector<std::future<Outputs>> running;
  for (const LayerWork& work : works) {
    running.push_back(start(router(model_->version), work, layer()));
  }

  gather(works.size());
  host_->serve_next(waiting_, *server_);

  EXPECT_TRUE(waiting_.empty());
  EXPECT_EQ(host_->load().merged_calls, works.size());
  for (std::size_t i = 0; i < works.size(); ++i) {
    expect_bits_of_whole(finish(std::move(running[i])), works[i], layer());
  }
}

TEST_P(ExpertHostTest, ACallForAVersionThatIsNotHereIsNoOthersBusiness) {
  const std::vector<LayerWork> works{
      {model_->config, 5, 1}, {model_->config, 5, 2}, {model_->config, 5, 3}};
  wire::ModelVersion other = model_->version;
  other.sha256 = std::string(64, 'f');
  std::vector<std::future<Outputs>> running;
  for (std::size_t i = 0; i < works.size(); ++i) {
    Router& one = i == 1 ? router(other, kImpatient) : router(model_->version);
    running.push_back(start(one, works[i], layer()));
  }

  gather(works.size());
  while (!waiting_.empty()) host_->serve_next(waiting_, *server_);

  EXPECT_EQ(host_->load().merged_calls, 2u);
  expect_bits_of_whole(finish(std::move(running[0])), works[0], layer());
  expect_bits_of_whole(finish(std::move(running[2])), works[2], layer());
  const Outputs refused = finish(std::move(running[1]));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("does not host that model"));
}

TEST_P(ExpertHostTest, NamesTheExpertThatIsNotHere) {
  const LayerWork work(model_->config, 5, 1);
  const std::uint32_t index = work.pairs.front().expert;
  host_->erase(model_->version, {layer(), index});
  EXPECT_FALSE(host_->ready(model_->version).test(layer(), index));

  const Outputs refused = finish(start(router(model_->version, kImpatient), work, layer()));

  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("is not here"));
}

TEST_P(ExpertHostTest, CallsOfAnotherLayerWaitForTheNextBatch) {
  const std::uint32_t other = layer() - 1;
  if (!model_->config.has_experts(other)) GTEST_SKIP() << "it has experts in one layer only";
  for (std::uint32_t index = 0; index < model_->config.gate.experts; ++index) {
    ASSERT_TRUE(host_->insert(model_->version, {other, index}, model_->expert({other, index})));
  }
  const LayerWork work(model_->config, 4, 1);
  auto first = start(router(model_->version), work, layer());
  gather(1);
  auto second = start(router(model_->version), work, other);
  gather(2);

  host_->serve_next(waiting_, *server_);

  ASSERT_EQ(waiting_.size(), 1u);
  EXPECT_EQ(waiting_.front()->call.layer, other);
  serve_all();
  expect_bits_of_whole(finish(std::move(first)), work, layer());
  expect_bits_of_whole(finish(std::move(second)), work, other);
  EXPECT_EQ(host_->load().merged_calls, 0u);
}

TEST_P(ExpertHostTest, ComputesOnlySoManyRowsTogether) {
  const std::size_t rows = kMergedRowsMax / 2 + 1;
  const LayerWork one(model_->config, rows, 1);
  const LayerWork two(model_->config, rows, 2);
  auto first = start(router(model_->version), one, layer());
  auto second = start(router(model_->version), two, layer());
  gather(2);

  host_->serve_next(waiting_, *server_);

  EXPECT_EQ(waiting_.size(), 1u);
  serve_all();
  expect_bits_of_whole(finish(std::move(first)), one, layer());
  expect_bits_of_whole(finish(std::move(second)), two, layer());
}

TEST_P(ExpertHostTest, TellsWhatItHosts) {
  const std::size_t bytes = host_->bytes();
  EXPECT_EQ(host_->size(), model_->config.gate.experts);
  EXPECT_EQ(host_->ready(model_->version).count(), model_->config.gate.experts);

  host_->erase(model_->version, {layer(), 0});
  host_->erase(model_->version, {layer(), 0});

  EXPECT_EQ(host_->size(), model_->config.gate.experts - 1);
  EXPECT_LT(host_->bytes(), bytes);
  EXPECT_FALSE(host_->insert(model_->version, {layer(), model_->config.gate.experts},
                             model_->expert({layer(), 0})));
  EXPECT_TRUE(host_->insert(model_->version, {layer(), 0}, model_->expert({layer(), 0})));
  EXPECT_EQ(host_->bytes(), bytes);

  const wire::ModelVersion other{"other", 2, "", std::string(64, 'a')};
  host_->open(other, model_->config);
  EXPECT_EQ(host_->bytes(), bytes);
  ASSERT_TRUE(host_->insert(other, {layer(), 0}, model_->expert({layer(), 0})));
  EXPECT_EQ(host_->size(), model_->config.gate.experts + 1);
  EXPECT_EQ(host_->hosted().size(), 2u);
  host_->close(model_->version);
  EXPECT_EQ(host_->size(), 1u);
  EXPECT_EQ(host_->ready(model_->version).count(), 0u);
  EXPECT_EQ(host_->ready(other).count(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Models, ExpertHostTest,
                         ::testing::Values("qwen3moe-q8_0", "gpt-oss-mxfp4", "deepseek2-v3-f32",
                                           "qwen3moe-bf16"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// ---- calls that no router of ours makes ----

class ExpertHostCallTest : public ::testing::Test {
 protected:
  ExpertHostCallTest()
      : worker_context_(
            *fabric::Context::create(keys_.ring(wire::NodeRole::kExpertWorker), {}, metrics_)),
        router_context_(
            *fabric::Context::create(keys_.ring(wire::NodeRole::kRouter), {}, metrics_)),
        server_(*fabric::CallServer::create(*worker_context_, "worker", 1, {}, {},
                                            std::chrono::system_clock::now)),
        client_(*fabric::CallClient::create(*router_context_, "router", 1, {},
                                            std::chrono::system_clock::now)),
        host_(model_.compute->compute()) {
    link_ = *client_->connect(*server_->listen("tcp://127.0.0.1:0"));
    while (!client_->is_up(link_)) look();
  }

  // Lets both ends make progress, and keeps what came.
  void look() {
    for (fabric::IncomingCall* call : server_->poll(Clock::now() + std::chrono::milliseconds(1))) {
      waiting_.push_back(call);
    }
    for (const auto& event : client_->poll(Clock::now() + std::chrono::milliseconds(1))) {
      if (event.kind == fabric::CallEvent::Kind::kReply) reply_ = event.reply;
    }
  }

  // A call of one row of zeros for expert 0 of the last layer arrives at the worker.
  void call(std::uint32_t hidden, Clock::time_point deadline) {
    const wire::ExpertCall call{.model_key = wire::model_key_of(model_.version),
                                .layer = model_.last_layer(),
                                .rows = 1,
                                .pairs = 1,
                                .hidden = hidden,
                                .forms = wire::RowForms::kFloats};
    const auto buffer = *client_->prepare(link_, call);
    std::memset(buffer.payload.data(), 0, buffer.payload.size());
    client_->send(buffer.id, {}, deadline);
    while (waiting_.empty()) look();
  }

  wire::ExpertReply answer() {
    host_.serve_next(waiting_, *server_);
    while (!reply_) look();
    return *std::exchange(reply_, std::nullopt);
  }

  static Clock::time_point later() { return Clock::now() + testkit::kPatience; }

  TestModel model_{"qwen3moe-f32"};
  testkit::KeyDirectory keys_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> worker_context_;
  std::unique_ptr<fabric::Context> router_context_;
  std::unique_ptr<fabric::CallServer> server_;
  std::unique_ptr<fabric::CallClient> client_;
  ExpertHost host_;
  fabric::DataLinkId link_ = 0;
  ExpertHost::Calls waiting_;
  std::optional<wire::ExpertReply> reply_;
};

TEST_F(ExpertHostCallTest, IsRefusedBeforeAModelIsOpen) {
  call(model_.config.hidden, later());

  const wire::ExpertReply reply = answer();

  EXPECT_FALSE(reply.ok);
  EXPECT_EQ(reply.error.code, ErrorCode::kNotFound);
}

TEST_F(ExpertHostCallTest, IsRefusedIfItsRowsAreNotTheModels) {
  host_.open(model_.version, model_.config);
  call(model_.config.hidden * 2, later());

  const wire::ExpertReply reply = answer();

  EXPECT_FALSE(reply.ok);
  EXPECT_EQ(reply.error.code, ErrorCode::kInvalidArgument);
}

TEST_F(ExpertHostCallTest, IsAnsweredWithWhatItCost) {
  host_.open(model_.version, model_.config);
  ASSERT_TRUE(host_.insert(model_.version, {model_.last_layer(), 0},
                           model_.expert({model_.last_layer(), 0})));
  call(model_.config.hidden, later());

  const wire::ExpertReply reply = answer();

  EXPECT_TRUE(reply.ok) << reply.error.to_string();
  EXPECT_EQ(reply.batch_pairs, 1u);
  EXPECT_EQ(host_.load().calls, 1u);
  EXPECT_EQ(host_.load().pairs, 1u);
}

TEST_F(ExpertHostCallTest, IsNotComputedAfterItsDeadline) {
  host_.open(model_.version, model_.config);
  ASSERT_TRUE(host_.insert(model_.version, {model_.last_layer(), 0},
                           model_.expert({model_.last_layer(), 0})));
  const Clock::time_point deadline = Clock::now() + std::chrono::milliseconds(100);
  call(model_.config.hidden, deadline);
  while (Clock::now() <= deadline + std::chrono::milliseconds(2)) look();

  host_.serve_next(waiting_, *server_);

  EXPECT_TRUE(waiting_.empty());
  EXPECT_EQ(host_.load().calls, 0u);
}

}  // namespace
}  // namespace conclave::expert_worker
