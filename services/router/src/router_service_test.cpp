#include "conclave/router/router_service.hpp"

#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "conclave/engine/generator.hpp"
#include "conclave/model/digest.hpp"
#include "conclave/testkit/direct_worker.hpp"
#include "conclave/testkit/fake_scheduler.hpp"
#include "conclave/testkit/placement.hpp"
#include "conclave/testkit/service_host.hpp"
#include "testing_gate.hpp"
#include "testing_gateway.hpp"

namespace conclave::router {
namespace {

using base::ErrorCode;
using ::testing::HasSubstr;
using wire::FinishReason;
using Clock = std::chrono::steady_clock;

constexpr const char* kDemo = CONCLAVE_SOURCE_DIR "/models/demo/conclave-demo.gguf";
constexpr const char* kOther = CONCLAVE_SOURCE_DIR "/tests/golden/models/qwen3moe-q8_0.gguf";
constexpr const char* kNode = "router-0";
constexpr const char* kQuestion = "What is 47 + 385?";
constexpr const char* kChat = R"({"messages": [{"role": "user", "content": "What is 47 + 385?"}]})";

// Greedy, and past what ends a text, as far as it is not said otherwise.
wire::Generate request(std::uint64_t stream, const std::string& text,
                       std::uint32_t max_tokens = 12) {
  wire::Generate request;
  request.stream = stream;
  request.request_id = "req-" + std::to_string(stream);
  request.model = "demo";
  request.text = text;
  request.max_tokens = max_tokens;
  request.sampling.temperature = 0.0f;
  request.ignore_eos = true;
  return request;
}

wire::Generate chat(std::uint64_t stream) {
  wire::Generate asked = request(stream, kChat);
  asked.kind = wire::PromptKind::kChat;
  asked.ignore_eos = false;
  return asked;
}

// Goes on for as long as the context lets it.
wire::Generate endless(std::uint64_t stream) { return request(stream, kQuestion, 900); }

// A router with its fleet in one process: a scheduler that is told what to say, and a worker with
// all experts.
class RouterServiceTest : public ::testing::Test {
 protected:
  RouterServiceTest()
      : whole_(*engine::LocalModel::load(kDemo, {.threads = 1})),
        compute_(*engine::ComputeHost::create(1, "")),
        version_(testkit::version_of(kDemo, "demo")),
        process_(*fleet::Process::create("", wire::NodeRole::kRouter, {}, metrics_)),
        scheduler_(std::make_unique<testkit::FakeScheduler>(*process_)),
        host_(kNode) {
    settings_.router.listen = "inproc://router";
    settings_.fleet.scheduler = {scheduler_->address()};
  }
  ~RouterServiceTest() override {
    gate_.open();
    gateway_.reset();
    service_.reset();
  }

  base::Status start_service() {
    service_ = *RouterService::create(settings_, host_.context(), {process_.get(), compute_.get()});
    return service_->start();
  }

  // Until the demo model is served.
  void start() {
    ASSERT_TRUE(start_service());
    worker_ = start_worker("worker");
    worker_->before_call([this] { gate_.pass(); });
    scheduler_->publish(table(worker_->endpoint()));
    ASSERT_TRUE(wait_report(wire::NodeState::kReady));
    gateway_ = std::make_unique<TestGateway>(*process_);
  }

  std::unique_ptr<testkit::DirectWorker> start_worker(const std::string& name) {
    auto worker = std::make_unique<testkit::DirectWorker>(
        process_->context(), name, compute_->compute(), version_, whole_->config());
    worker->host_all(whole_->file());
    return worker;
  }

  wire::RoutingTable table(const wire::WorkerEndpoint& worker) {
    return testkit::table_of(++epoch_, version_, whole_->config(), worker);
  }

  // Until the router uses it.
  void publish(const wire::RoutingTable& table) {
    scheduler_->publish(table);
    ASSERT_TRUE(scheduler_->wait_report(kNode, [&table](const wire::NodeReport& report) {
      return report.epoch_seen >= table.epoch;
    }));
  }

  std::optional<wire::NodeReport> wait_report(wire::NodeState state) {
    return scheduler_->wait_report(
        kNode, [state](const wire::NodeReport& report) { return report.state == state; });
  }

  // What the whole model in one process gives.
  engine::Generation expected(std::string_view text, engine::SequenceRequest sequence) {
    sequence.ignore_eos = true;
    if (sequence.prompt.empty()) {
      sequence.prompt = *whole_->tokenizer().encode(text, {.parse_special = true});
    }
    return engine::Generator(*whole_).run(std::span(&sequence, 1)).value().front();
  }

  // The answer to a request that must be accepted.
  HeardStream answer(const wire::Generate& asked) {
    const auto accepted = gateway_->generate(asked);
    EXPECT_TRUE(accepted) << accepted.error().to_string();
    return accepted ? gateway_->wait(asked.stream, asked.choices) : HeardStream{};
  }
  base::Error refusal(const wire::Generate& asked) {
    const auto accepted = gateway_->generate(asked);
    return accepted ? base::Error{} : accepted.error();
  }
  // All casts of the gateway so far have reached the engine.
  void flush() { EXPECT_TRUE(gateway_->tokenize({.model = "demo", .text = "x"})); }

  Gate gate_;  // before every call of the worker
  std::unique_ptr<engine::LocalModel> whole_;
  std::unique_ptr<engine::ComputeHost> compute_;
  wire::ModelVersion version_;
  telemetry::Metrics metrics_;
  std::unique_ptr<fleet::Process> process_;
  std::unique_ptr<testkit::FakeScheduler> scheduler_;
  testkit::ServiceHost host_;
  RouterService::Settings settings_;
  std::unique_ptr<RouterService> service_;
  std::unique_ptr<testkit::DirectWorker> worker_;
  std::unique_ptr<TestGateway> gateway_;
  std::uint64_t epoch_ = 0;
};

// ---- tokens ----

TEST_F(RouterServiceTest, AnswersATextAsTheWholeModelDoes) {
  start();
  const engine::Generation whole = expected(kQuestion, {.max_tokens = 12});

  const HeardStream heard = answer(request(1, kQuestion));

  EXPECT_EQ(heard.choices[0].tokens, whole.tokens);
  EXPECT_EQ(heard.choices[0].text, whole.text);
  EXPECT_TRUE(heard.prompt.empty());
  EXPECT_GT(worker_->served(), 0);
}

TEST_F(RouterServiceTest, AnswersAChat) {
  start();

  const HeardStream heard = answer(chat(1));

  EXPECT_EQ(heard.choices[0].text, "432");
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, TakesTokensAsTheyAre) {
  start();
  wire::Generate asked = request(1, "");
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {30, 31, 32};

  const HeardStream heard = answer(asked);

  EXPECT_EQ(heard.choices[0].tokens,
            expected("", {.prompt = asked.tokens, .max_tokens = 12}).tokens);
}

TEST_F(RouterServiceTest, EveryChoiceDrawsWithASeedOfItsOwn) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.choices = 3;
  asked.sampling.temperature = 1.5f;
  asked.sampling.seed = 17;

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.choices.size(), 3u);
  for (std::uint32_t choice = 0; choice < 3; ++choice) {
    const engine::SequenceRequest alone{.max_tokens = 12,
                                        .sampling = {.temperature = 1.5f, .seed = 17u + choice}};
    EXPECT_EQ(heard.choices[choice].tokens, expected(kQuestion, alone).tokens) << choice;
  }
}

TEST_F(RouterServiceTest, ManyAtOnceGetWhatEachGetsAlone) {
  start();
  std::vector<std::string> texts;
  for (int i = 0; i < 20; ++i) texts.push_back("What is " + std::to_string(i * 37) + " + 5?");
  for (std::size_t i = 0; i < texts.size(); ++i) {
    ASSERT_TRUE(gateway_->generate(request(i + 1, texts[i])));
  }

  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(gateway_->wait(i + 1).choices[0].tokens,
              expected(texts[i], {.max_tokens = 12}).tokens);
  }
}

TEST_F(RouterServiceTest, SaysWhatOfAPromptWasCachedForItsSalt) {
  start();
  const std::string text = "What is 47 + 385? Say it in one word, please.";
  const auto asked = [&](std::uint64_t stream, const std::string& salt) {
    wire::Generate generate = request(stream, text);
    generate.cache_salt = salt;
    return generate;
  };
  const HeardStream cold = answer(asked(1, "a"));
  const HeardStream warm = answer(asked(2, "a"));
  const HeardStream stranger = answer(asked(3, "b"));

  EXPECT_EQ(cold.choices[0].events.back().cached_tokens, 0u);
  EXPECT_GT(warm.choices[0].events.back().cached_tokens, 0u);
  EXPECT_EQ(stranger.choices[0].events.back().cached_tokens, 0u);
  EXPECT_EQ(warm.choices[0].tokens, cold.choices[0].tokens);
  EXPECT_THAT(host_.metrics().expose(),
              HasSubstr("conclave_router_prefix_cache_hit_tokens_total " +
                        std::to_string(warm.choices[0].events.back().cached_tokens)));
}

TEST_F(RouterServiceTest, ABetterPriorityTakesThePlaceOfAWorseOne) {
  settings_.batch.sequences_max = 1;
  start();
  wire::Generate low = endless(1);
  low.priority = 2;
  ASSERT_TRUE(gateway_->generate(low));
  gateway_->wait_begun(1);
  wire::Generate high = request(2, kQuestion);
  high.priority = -1;

  EXPECT_EQ(answer(high).choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);

  EXPECT_THAT(host_.metrics().expose(), HasSubstr("conclave_router_preemptions_total 1"));
  gateway_->cancel({"gateway-0", 1});
  gateway_->wait(1);
}

TEST_F(RouterServiceTest, ReportsLogprobsIfTheyAreWanted) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.logprobs = true;
  asked.top_logprobs = 2;
  const engine::Generation whole =
      expected(kQuestion, {.max_tokens = 12, .logprobs = true, .top_logprobs = 2});

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.choices[0].events.size(), whole.logprobs.size());
  for (std::size_t i = 0; i < whole.logprobs.size(); ++i) {
    const wire::TokenEvent& event = heard.choices[0].events[i];
    EXPECT_EQ(event.logprob, whole.logprobs[i].logprob);
    EXPECT_EQ(event.piece, whole_->tokenizer().piece(event.token));
    ASSERT_EQ(event.top.size(), 2u);
    EXPECT_EQ(event.top[0].token, whole.logprobs[i].top[0].id);
  }
}

TEST_F(RouterServiceTest, EchoesThePrompt) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.echo = true;

  const HeardStream heard = answer(asked);

  std::string text;
  for (const wire::TokenEvent& event : heard.prompt) text += event.text;
  EXPECT_EQ(text, kQuestion);
  EXPECT_TRUE(heard.prompt_came_first);
}

TEST_F(RouterServiceTest, ScoresThePromptThatItEchoes) {
  start();
  std::string text;
  for (int i = 0; i < 40; ++i) text += kQuestion;  // over several steps
  wire::Generate asked = request(1, text, 3);
  asked.echo = true;
  asked.logprobs = true;
  asked.top_logprobs = 1;
  asked.choices = 2;
  const engine::Generation whole = expected(
      text, {.max_tokens = 3, .logprobs = true, .top_logprobs = 1, .prompt_logprobs = true});

  const HeardStream heard = answer(asked);

  ASSERT_EQ(heard.prompt.size(), whole.prompt_logprobs.size() + 1);
  EXPECT_TRUE(heard.prompt[0].top.empty());  // nothing is before the first one
  for (std::size_t i = 0; i < whole.prompt_logprobs.size(); ++i) {
    EXPECT_EQ(heard.prompt[i + 1].token, whole.prompt_logprobs[i].token);
    EXPECT_EQ(heard.prompt[i + 1].logprob, whole.prompt_logprobs[i].logprob);
  }
  EXPECT_TRUE(heard.prompt_came_first);
  EXPECT_EQ(heard.choices[0].tokens, whole.tokens);
  EXPECT_EQ(heard.choices[1].tokens, whole.tokens);
}

TEST_F(RouterServiceTest, ScoresAPromptWithoutGoingOn) {
  start();
  wire::Generate asked = request(1, kQuestion, 0);
  asked.echo = true;
  asked.logprobs = true;

  const HeardStream heard = answer(asked);

  EXPECT_GT(heard.prompt.size(), 3u);
  EXPECT_TRUE(heard.choices[0].tokens.empty());
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kLength);
}

TEST_F(RouterServiceTest, EndsAtAStopString) {
  start();
  wire::Generate asked = chat(1);
  asked.stop = {"3"};

  EXPECT_EQ(answer(asked).choices[0].text, "4");

  asked.stream = 2;
  asked.include_stop = true;
  const HeardStream heard = answer(asked);
  EXPECT_EQ(heard.choices[0].text, "43");
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, EndsAtAStopToken) {
  start();
  const engine::Generation whole = expected(kQuestion, {.max_tokens = 12});
  wire::Generate asked = request(1, kQuestion);
  asked.stop_tokens = {whole.tokens[2]};

  const HeardStream heard = answer(asked);

  ASSERT_LE(heard.choices[0].tokens.size(), 2u);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kStop);
}

TEST_F(RouterServiceTest, GoesOnToTheEndOfTheContextIfNoLengthIsAskedFor) {
  settings_.batch.kv_tokens_max = 250;  // no multiple of a block
  start();
  wire::Generate asked = endless(1);
  asked.max_tokens.reset();

  const HeardStream heard = answer(asked);

  const std::size_t prompt = whole_->tokenizer().encode(kQuestion)->size();
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(prompt + heard.choices[0].tokens.size(), 240u);
}

// ---- streams that another router began ----

// What came of `asked` when it was computed as a whole, and all that comes if it is cut after each
// token: the rest of it, with the same texts and numbers.
TEST_F(RouterServiceTest, GoesOnWhereAnotherRouterEnded) {
  start();
  wire::Generate greedy = request(1, kQuestion);
  greedy.logprobs = true;
  greedy.top_logprobs = 2;
  wire::Generate sampled = request(1, kQuestion);
  sampled.choices = 3;
  sampled.sampling = {.temperature = 1.5f,
                      .seed = 17,
                      .presence_penalty = 0.7f,
                      .repetition_penalty = 1.3f,
                      .min_tokens = 4};
  wire::Generate held = chat(1);
  held.stop = {"32x", "2"};  // text is held back for the first, the second ends it
  wire::Generate bytes = request(1, "\xe2\x82\xac \xf0\x9f\x98\x80", 10);
  bytes.sampling = {.temperature = 2.0f, .seed = 5};
  std::uint64_t stream = 100;
  for (const wire::Generate& asked : {greedy, sampled, held, bytes}) {
    const HeardStream whole = answer(asked);
    for (std::size_t cut = 1; cut < 12; ++cut) {
      SCOPED_TRACE(asked.text + ", cut after " + std::to_string(cut));
      wire::Generate rest = asked;
      rest.stream = ++stream;
      rest.version = version_.version;
      for (const Heard& choice : whole.choices) {
        const bool finished = choice.tokens.size() <= cut;
        rest.resume.push_back({{}, finished});
        if (!finished) {
          rest.resume.back().tokens.assign(choice.tokens.begin(),
                                           choice.tokens.begin() + static_cast<long>(cut));
        }
      }
      if (std::ranges::all_of(rest.resume, &wire::ResumedChoice::finished)) break;

      ASSERT_TRUE(gateway_->generate(rest));
      const auto open = static_cast<std::size_t>(
          std::ranges::count(rest.resume, false, &wire::ResumedChoice::finished));
      const HeardStream heard = gateway_->wait(rest.stream, open);

      for (std::size_t i = 0; i < heard.choices.size(); ++i) {
        const Heard& all = whole.choices[i];
        const Heard& more = heard.choices[i];
        if (rest.resume[i].finished) {
          EXPECT_TRUE(more.tokens.empty());
          continue;
        }
        std::string text;
        std::vector<std::int32_t> tokens(all.tokens.begin() + static_cast<long>(cut),
                                         all.tokens.end());
        for (std::size_t at = 0; at < cut; ++at) text += all.events[at].text;
        EXPECT_EQ(more.tokens, tokens);
        EXPECT_EQ(text + more.text, all.text);
        EXPECT_EQ(more.finish, all.finish);
        for (std::size_t at = 0; at < more.events.size() && cut + at < all.events.size(); ++at) {
          EXPECT_EQ(more.events[at].logprob, all.events[cut + at].logprob);
          EXPECT_EQ(more.events[at].top, all.events[cut + at].top);
        }
      }
    }
  }
}

TEST_F(RouterServiceTest, SaysWhatAnotherRouterMustKnowToGoOn) {
  settings_.batch.kv_tokens_max = 256;
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.max_tokens.reset();

  const auto accepted = gateway_->generate(asked);

  ASSERT_TRUE(accepted);
  EXPECT_EQ(accepted->version, version_.version);
  EXPECT_EQ(accepted->prompt_tokens + accepted->max_tokens, 256u);
  gateway_->wait(1);
}

TEST_F(RouterServiceTest, RefusesToGoOnWithWhatCannotBe) {
  start();
  const auto refused = [this](const std::function<void(wire::Generate&)>& change) {
    wire::Generate asked = request(1, kQuestion);
    asked.choices = 2;
    asked.resume.resize(2);
    change(asked);
    return refusal(asked).code;
  };
  using Change = wire::Generate&;
  EXPECT_EQ(refused([](Change asked) { asked.resume.pop_back(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(
      refused([](Change asked) { asked.resume[0].finished = asked.resume[1].finished = true; }),
      ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.echo = true; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.resume[1].tokens = {-1}; }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.resume[1].tokens.assign(13, 5); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused([](Change asked) { asked.version = 77; }), ErrorCode::kUnavailable);
  EXPECT_EQ(refused([](Change) {}), base::Error{}.code) << "and none of them left anything";
  gateway_->wait(1, 2);
}

// ---- refusals ----

TEST_F(RouterServiceTest, RefusesRequestsThatCannotRun) {
  start();
  wire::Generate none = request(1, kQuestion);
  none.choices = 0;
  EXPECT_EQ(refusal(none).code, ErrorCode::kInvalidArgument);
  wire::Generate many = request(1, kQuestion);
  many.choices = 4'000'000'000;
  EXPECT_EQ(refusal(many).code, ErrorCode::kInvalidArgument);
  wire::Generate token = request(1, "");
  token.kind = wire::PromptKind::kTokens;
  token.tokens = {1, 512};
  EXPECT_EQ(refusal(token).code, ErrorCode::kInvalidArgument);
  token.tokens.clear();
  EXPECT_EQ(refusal(token).code, ErrorCode::kInvalidArgument);
  wire::Generate hot = request(1, kQuestion);
  hot.sampling.temperature = -1.0f;
  EXPECT_EQ(refusal(hot).code, ErrorCode::kInvalidArgument);
  wire::Generate talk = request(1, "no json");
  talk.kind = wire::PromptKind::kChat;
  EXPECT_EQ(refusal(talk).code, ErrorCode::kInvalidArgument);

  // None of them left anything behind.
  EXPECT_TRUE(service_->ready());
  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty());
}

TEST_F(RouterServiceTest, RefusesAnotherModel) {
  start();
  wire::Generate asked = request(1, kQuestion);
  asked.model = "olmoe";

  const base::Error error = refusal(asked);

  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_THAT(error.message, HasSubstr("serves demo, not olmoe"));
}

TEST_F(RouterServiceTest, RefusesPromptsThatAreTooLong) {
  start();
  std::string text;
  for (int i = 0; i < 200; ++i) text += kQuestion;

  EXPECT_THAT(refusal(request(1, text)).message, HasSubstr("the context of the model is 1024"));
  EXPECT_EQ(refusal(request(1, kQuestion, 1024)).code, ErrorCode::kInvalidArgument);
}

TEST_F(RouterServiceTest, RefusesAStreamThatIsOpen) {
  start();
  gate_.close();
  auto first = std::async(std::launch::async, [&] { return gateway_->generate(request(7, "a")); });
  ASSERT_TRUE(gate_.wait_for_one());

  EXPECT_EQ(refusal(request(7, kQuestion)).code, ErrorCode::kInvalidArgument);

  gate_.open();
  EXPECT_TRUE(first.get());
  gateway_->wait(7);
}

TEST_F(RouterServiceTest, RefusesMoreThanItHasRoomFor) {
  settings_.batch.sequences_max = 1;
  settings_.batch.waiting_max = 2;
  start();
  wire::Generate two = endless(1);
  two.choices = 2;
  ASSERT_TRUE(gateway_->generate(two));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());

  two.stream = 2;
  EXPECT_EQ(refusal(two).code, ErrorCode::kOverloaded);

  gateway_->cancel({"gateway-0", 1});
  gate_.open();
  gateway_->wait(1, 2);
  two.max_tokens = 3;
  EXPECT_EQ(answer(two).choices.size(), 2u);
}

// ---- ends ----

TEST_F(RouterServiceTest, AStreamThatIsCancelledEnds) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());

  gateway_->cancel({"gateway-0", 1});
  gateway_->cancel({"gateway-0", 1});
  gateway_->cancel({"gateway-0", 99});
  flush();
  gate_.open();

  EXPECT_EQ(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty()) << "the number is free again";
}

TEST_F(RouterServiceTest, OneGatewayCannotCancelAnothersStream) {
  start();
  TestGateway other(*process_, "gateway-1");
  ASSERT_TRUE(gateway_->generate(request(1, kQuestion)));

  other.cancel({"gateway-0", 1});
  EXPECT_TRUE(other.tokenize({.model = "demo", .text = "x"}));

  EXPECT_NE(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
}

TEST_F(RouterServiceTest, AStreamEndsWithTheLinkOfItsGateway) {
  start();
  wire::Generate asked = endless(1);
  asked.choices = 32;
  asked.sampling.temperature = 1.0f;
  ASSERT_TRUE(gateway_->generate(asked));
  gateway_->wait_begun(1);

  gateway_.reset();

  const auto report = [&] {
    std::optional<wire::NodeReport> last;
    do {
      scheduler_->nudge(kNode);
      last = scheduler_->wait_report(kNode);
    } while (last && last->load.running > 0);
    return last;
  }();
  ASSERT_TRUE(report);
  EXPECT_LT(report->load.tokens_total, 32u * 900u);
  // Nothing of it counts any more.
  service_->drain(Clock::now() + testkit::kPatience);
  gateway_ = std::make_unique<TestGateway>(*process_);
  EXPECT_THAT(refusal(request(1, kQuestion)).message, HasSubstr("draining"));
}

TEST_F(RouterServiceTest, ADrainFinishesWhatThereIsAndTakesNothingNew) {
  start();
  ASSERT_TRUE(gateway_->generate(request(1, kQuestion, 300)));
  gateway_->wait_begun(1);
  gate_.close();
  ASSERT_TRUE(gate_.wait_for_one());
  auto draining =
      std::async(std::launch::async, [&] { service_->drain(Clock::now() + testkit::kPatience); });
  ASSERT_TRUE(wait_report(wire::NodeState::kDraining));

  const base::Error error = refusal(request(2, kQuestion));
  EXPECT_EQ(error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(error.message, HasSubstr("draining"));
  EXPECT_THAT(service_->ready().error().message, HasSubstr("draining"));
  EXPECT_EQ(draining.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  gate_.open();
  draining.get();
  service_->stop();

  EXPECT_EQ(gateway_->wait(1).choices[0].tokens, expected(kQuestion, {.max_tokens = 300}).tokens);
}

TEST_F(RouterServiceTest, ADrainEndsWhenItsTimeIsOver) {
  start();
  gate_.close();
  auto asked = std::async(std::launch::async, [&] { return gateway_->generate(endless(1)); });
  ASSERT_TRUE(gate_.wait_for_one());

  service_->drain(Clock::now() + std::chrono::milliseconds(20));

  gate_.open();
  service_->stop();
  static_cast<void>(asked.get());  // accepted, or the link went down before that
}

// ---- tokens and text ----

TEST_F(RouterServiceTest, TokenizesAndBack) {
  start();

  const auto tokens = gateway_->tokenize({.model = "demo", .text = kQuestion});
  ASSERT_TRUE(tokens) << tokens.error().to_string();
  const auto text = gateway_->detokenize({.model = "demo", .tokens = tokens->tokens});

  EXPECT_EQ(tokens->tokens, *whole_->tokenizer().encode(kQuestion));
  EXPECT_EQ(tokens->pieces.size(), tokens->tokens.size());
  EXPECT_EQ(tokens->context_length, 1024u);
  ASSERT_TRUE(text);
  EXPECT_THAT(text->text, HasSubstr(kQuestion));
}

TEST_F(RouterServiceTest, TokenizesAChat) {
  start();

  const auto tokens =
      gateway_->tokenize({.model = "demo", .kind = wire::PromptKind::kChat, .text = kChat});

  ASSERT_TRUE(tokens) << tokens.error().to_string();
  EXPECT_GT(tokens->tokens.size(), whole_->tokenizer().encode(kQuestion)->size());
}

TEST_F(RouterServiceTest, RefusesWhatHasNoTokensOrNoText) {
  start();

  EXPECT_EQ(gateway_->tokenize({.model = "other", .text = "x"}).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(gateway_->tokenize({.model = "demo", .kind = wire::PromptKind::kTokens, .text = "x"})
                .error()
                .code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(gateway_->detokenize({.model = "demo", .tokens = {-1}}).error().code,
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(gateway_->detokenize({.model = "demo", .tokens = {512}}).error().code,
            ErrorCode::kInvalidArgument);
}

TEST_F(RouterServiceTest, RefusesAnswersThatNoMessageHolds) {
  start();
  // Every byte of it is a token.
  const std::string bytes(std::size_t{3} << 20, '\x01');
  EXPECT_THAT(gateway_->tokenize({.model = "demo", .text = bytes}).error().message,
              HasSubstr("are given back"));
  std::int32_t longest = 0;
  const tokenizer::Tokenizer& tokenizer = whole_->tokenizer();
  for (std::int32_t id = 0; id < 512; ++id) {
    if (tokenizer.piece(id).size() > tokenizer.piece(longest).size()) longest = id;
  }
  const std::vector<std::int32_t> tokens(std::size_t{4} << 20, longest);
  EXPECT_THAT(gateway_->detokenize({.model = "demo", .tokens = tokens}).error().message,
              HasSubstr("the text is longer than"));
}

// ---- the fleet ----

TEST_F(RouterServiceTest, SaysWhatItIsUntilItHasAModel) {
  settings_.router.advertise = "tcp://router:7400";
  ASSERT_TRUE(start_service());

  const auto report = scheduler_->wait_report(kNode);

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_THAT(report->reason, HasSubstr("named no model"));
  EXPECT_EQ(report->role, wire::NodeRole::kRouter);
  EXPECT_EQ(report->address, "tcp://router:7400");
  EXPECT_EQ(report->epoch_seen, 0u);
  gateway_ = std::make_unique<TestGateway>(*process_);
  EXPECT_EQ(refusal(request(1, kQuestion)).code, ErrorCode::kUnavailable);
}

TEST_F(RouterServiceTest, ReportsTheModelAndTheTableThatItUses) {
  start();
  scheduler_->nudge(kNode);

  const auto report = scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.epoch_seen == epoch_; });

  ASSERT_TRUE(report);
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].model, version_);
  EXPECT_EQ(report->load.kv_tokens_max, settings_.batch.kv_tokens_max);
  EXPECT_THAT(host_.metrics().expose(), HasSubstr("conclave_router_sequences_running"));
}

TEST_F(RouterServiceTest, SaysWhyAModelCannotBeLoaded) {
  ASSERT_TRUE(start_service());
  version_.uri = "/no/such/file.gguf";
  scheduler_->publish(table({"worker", 1, "direct://worker"}));

  const auto report = scheduler_->wait_report(kNode, [](const wire::NodeReport& some) {
    return some.reason.find("cannot load") != std::string::npos;
  });

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_EQ(report->epoch_seen, 0u) << "it does not use the table";
  EXPECT_THAT(service_->ready().error().message, HasSubstr("/no/such/file.gguf"));
}

TEST_F(RouterServiceTest, RefusesABackboneThatWasNotRegistered) {
  ASSERT_TRUE(start_service());
  worker_ = start_worker("worker");
  wire::RoutingTable wrong = table(worker_->endpoint());
  const wire::Sha256 sum = *model::backbone_digest(whole_->file(), whole_->config());
  wrong.backbone = sum;
  wrong.backbone[31] ^= 1;
  scheduler_->publish(wrong);

  const auto report = scheduler_->wait_report(
      kNode, [](const wire::NodeReport& some) { return !some.refused.empty(); });

  ASSERT_TRUE(report);
  EXPECT_EQ(report->state, wire::NodeState::kStarting);
  EXPECT_EQ(report->refused[0].model, version_);
  EXPECT_EQ(report->refused[0].layer, wire::RefusedExpert::kBackbone);
  EXPECT_THAT(report->reason, HasSubstr("backbone"));
}

TEST_F(RouterServiceTest, ServesABackboneThatWasRegistered) {
  ASSERT_TRUE(start_service());
  worker_ = start_worker("worker");
  wire::RoutingTable right = table(worker_->endpoint());
  right.backbone = *model::backbone_digest(whole_->file(), whole_->config());
  scheduler_->publish(right);

  const auto report = wait_report(wire::NodeState::kReady);

  ASSERT_TRUE(report);
  EXPECT_TRUE(report->refused.empty());
}

TEST_F(RouterServiceTest, IsNotReadyWithoutALinkToEveryExpert) {
  ASSERT_TRUE(start_service());
  scheduler_->publish(table({"worker", 1, "direct://worker"}));

  const auto report = scheduler_->wait_report(kNode, [](const wire::NodeReport& some) {
    return some.reason.find("no link to worker") != std::string::npos;
  });
  ASSERT_TRUE(report);
  worker_ = start_worker("worker");

  EXPECT_TRUE(wait_report(wire::NodeState::kReady));
}

TEST_F(RouterServiceTest, AStreamOutlivesItsWorker) {
  start();
  const wire::Generate asked = request(1, kQuestion, 300);
  ASSERT_TRUE(gateway_->generate(asked));
  gateway_->wait_begun(1);

  worker_.reset();
  auto other = start_worker("other");
  scheduler_->publish(table(other->endpoint()));

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].tokens, expected(kQuestion, {.max_tokens = 300}).tokens);
  EXPECT_GT(other->served(), 0);
}

TEST_F(RouterServiceTest, TellsTheSchedulerAtOnceOfAWorkerThatItLost) {
  settings_.fleet.report_ms = 60'000;
  start();

  worker_.reset();

  EXPECT_TRUE(scheduler_->wait_report(kNode, [](const wire::NodeReport& report) {
    return report.lost == std::vector<std::string>{"worker"};
  }));
}

TEST_F(RouterServiceTest, AStreamEndsWithAnErrorIfItsExpertsStayAway) {
  settings_.dispatch.reload_wait_ms = 10;
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);

  worker_.reset();

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kError);
  EXPECT_EQ(heard.choices[0].error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(heard.choices[0].error.message, HasSubstr("no link to worker"));
  EXPECT_FALSE(service_->ready());
}

// How often each expert is the best of a token, and how often another of its choice.
class Counts final : public engine::RoutingObserver {
 public:
  explicit Counts(const model::ModelConfig& config)
      : used_(config.gate.used),
        best_(config.layers, std::vector<int>(config.gate.experts)),
        others_(best_) {}
  void routed(std::uint32_t layer, const model::Routing& routing) override {
    for (std::size_t i = 0; i < routing.experts.size(); ++i) {
      ++(i % used_ == 0 ? best_ : others_)[layer][routing.experts[i]];
    }
  }
  /// Of this layer, the one that is wanted most and never as the best.
  [[nodiscard]] std::uint32_t most_dispensable(std::uint32_t layer) const {
    std::uint32_t most = 0;
    for (std::uint32_t e = 0; e < best_[layer].size(); ++e) {
      const bool is_more = others_[layer][e] > others_[layer][most] || best_[layer][most] > 0;
      if (best_[layer][e] == 0 && is_more) most = e;
    }
    return most;
  }

 private:
  std::size_t used_;
  std::vector<std::vector<int>> best_, others_;  // by layer, expert
};

TEST_F(RouterServiceTest, TokensDoWithoutAnExpertWhereThatIsThePolicy) {
  settings_.dispatch.degrade_after_ms = 1;
  const model::ModelConfig& config = whole_->config();
  constexpr std::uint32_t kLayer = 1;
  Counts counts(config);
  const auto pool = *engine::make_kv_pool(config, {});
  engine::Batcher batcher(whole_->backbone(), whole_->experts(), *pool, whole_->tokenizer(),
                          whole_->compute(), {});
  batcher.observe(&counts);
  engine::SequenceRequest sequence;
  sequence.prompt = *whole_->tokenizer().encode(kQuestion, {.parse_special = true});
  sequence.max_tokens = 12;
  sequence.ignore_eos = true;
  ASSERT_TRUE(batcher.submit(std::move(sequence)));
  while (batcher.has_work()) batcher.step();
  const std::uint32_t gone = counts.most_dispensable(kLayer);

  start();
  auto other = start_worker("other");
  const auto with_two = [&](wire::DegradedPolicy policy) {
    auto table = testkit::table_of(
        ++epoch_, version_, config, {worker_->endpoint(), {"other", 1, "direct://other"}},
        [&](std::uint32_t layer, std::uint32_t expert) {
          return std::vector{static_cast<std::uint16_t>(layer == kLayer && expert == gone ? 1 : 0)};
        });
    table.policy = policy;
    return table;
  };
  publish(with_two(wire::DegradedPolicy::kNextBest));
  const HeardStream exact = answer(request(1, kQuestion));
  EXPECT_EQ(exact.choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);
  other.reset();

  wire::Generate asked = request(2, kQuestion);
  asked.cache_salt = "again";  // or the prompt would not be computed
  const HeardStream degraded = answer(asked);
  EXPECT_EQ(degraded.choices[0].finish, FinishReason::kLength);
  EXPECT_EQ(degraded.choices[0].tokens.size(), 12u);
  std::uint32_t pairs = 0;
  for (const wire::TokenEvent& event : degraded.choices[0].events) pairs += event.degraded;
  EXPECT_GT(pairs, 0u);
  EXPECT_TRUE(service_->ready());

  other = start_worker("other");
  publish(with_two(wire::DegradedPolicy::kWait));
  asked = request(3, kQuestion);
  asked.cache_salt = "again";
  const HeardStream again = answer(asked);
  EXPECT_EQ(again.choices[0].tokens, exact.choices[0].tokens);
  for (const wire::TokenEvent& event : again.choices[0].events) EXPECT_EQ(event.degraded, 0u);
}

TEST_F(RouterServiceTest, MissingExpertsEndAStreamSoonWhereThatIsThePolicy) {
  start();
  auto failing = table(worker_->endpoint());
  failing.policy = wire::DegradedPolicy::kFail;
  publish(failing);
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);

  worker_.reset();

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kError);
  EXPECT_EQ(heard.choices[0].error.code, ErrorCode::kUnavailable);
  EXPECT_THAT(heard.choices[0].error.message, HasSubstr("experts are missing"));
}

TEST_F(RouterServiceTest, AnotherModelReplacesTheFirst) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  const auto other = *engine::LocalModel::load(kOther, {.threads = 1});
  const wire::ModelVersion version = testkit::version_of(kOther, "other", 2);
  testkit::DirectWorker worker(process_->context(), "other", compute_->compute(), version,
                               other->config());
  worker.host_all(other->file());

  scheduler_->publish(testkit::table_of(++epoch_, version, other->config(), worker.endpoint()));

  const HeardStream heard = gateway_->wait(1);
  EXPECT_EQ(heard.choices[0].finish, FinishReason::kError);
  EXPECT_EQ(heard.choices[0].error.code, ErrorCode::kUnavailable);
  const auto report = scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    return some.models.size() == 1 && some.models[0].model == version &&
           some.state == wire::NodeState::kReady;
  });
  ASSERT_TRUE(report);
  EXPECT_GT(report->load.tokens_total, 0u) << "totals go on";
  EXPECT_EQ(refusal(request(2, "a")).code, ErrorCode::kNotFound);
  wire::Generate asked = request(3, "");
  asked.model = "other";
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {3, 4, 5};
  engine::SequenceRequest alone{.prompt = asked.tokens, .max_tokens = 12, .ignore_eos = true};
  EXPECT_EQ(answer(asked).choices[0].tokens,
            engine::Generator(*other).run(std::span(&alone, 1))->front().tokens);
}

TEST_F(RouterServiceTest, ServesSeveralVersionsAndLeavesOneInPeace) {
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  const auto other = *engine::LocalModel::load(kOther, {.threads = 1});
  const wire::ModelVersion second = testkit::version_of(kOther, "demo", 2);
  testkit::DirectWorker worker(process_->context(), "other", compute_->compute(), second,
                               other->config());
  worker.host_all(other->file());
  const auto both = [&](bool leaving) {
    wire::RoutingTable one = table(worker_->endpoint());
    one.leaving = leaving;
    return std::vector{std::move(one),
                       testkit::table_of(epoch_, second, other->config(), worker.endpoint())};
  };

  scheduler_->publish(both(false));
  ASSERT_TRUE(scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    const wire::HostedModel* open = some.hosted(second);
    return some.models.size() == 2 && open != nullptr && open->state == wire::NodeState::kReady &&
           some.epoch_seen == epoch_;
  }));
  wire::Generate asked = request(2, "");
  asked.version = 2;
  asked.kind = wire::PromptKind::kTokens;
  asked.tokens = {3, 4, 5};
  engine::SequenceRequest alone{.prompt = asked.tokens, .max_tokens = 12, .ignore_eos = true};
  const auto of_second = engine::Generator(*other).run(std::span(&alone, 1))->front().tokens;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second);
  EXPECT_EQ(answer(request(3, kQuestion)).choices[0].tokens,
            expected(kQuestion, {.max_tokens = 12}).tokens);
  wire::Generate third = request(4, kQuestion);
  third.version = 3;
  EXPECT_EQ(refusal(third).code, ErrorCode::kUnavailable);

  // The first one is left: what runs goes on, and what names it is still taken.
  scheduler_->publish(both(true));
  ASSERT_TRUE(scheduler_->wait_report(kNode, [&](const wire::NodeReport& some) {
    const wire::HostedModel* open = some.hosted(version_);
    return open != nullptr && open->state == wire::NodeState::kDraining;
  }));
  asked.stream = 5;
  asked.version = 0;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second) << "whichever is served stays";
  wire::Generate of_first = request(6, kQuestion);
  of_first.version = 1;
  EXPECT_EQ(answer(of_first).choices[0].tokens, expected(kQuestion, {.max_tokens = 12}).tokens);

  gateway_->cancel({"gateway-0", 1});
  EXPECT_EQ(gateway_->wait(1).choices[0].finish, FinishReason::kCancelled);
  scheduler_->nudge(kNode);
  ASSERT_TRUE(scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.hosted(version_) == nullptr; }));

  scheduler_->publish({testkit::table_of(++epoch_, second, other->config(), worker.endpoint())});
  ASSERT_TRUE(scheduler_->wait_report(
      kNode, [&](const wire::NodeReport& some) { return some.epoch_seen == epoch_; }));
  of_first.stream = 7;
  EXPECT_EQ(refusal(of_first).code, ErrorCode::kUnavailable);
  asked.stream = 8;
  EXPECT_EQ(answer(asked).choices[0].tokens, of_second);
}

TEST_F(RouterServiceTest, ServesOnWithoutItsScheduler) {
  start();
  scheduler_.reset();

  EXPECT_FALSE(answer(request(1, kQuestion)).choices.empty());
  EXPECT_TRUE(service_->ready());

  scheduler_ = std::make_unique<testkit::FakeScheduler>(*process_);
  const auto report = scheduler_->wait_report(kNode);
  ASSERT_TRUE(report);
  ASSERT_EQ(report->models.size(), 1u);
  EXPECT_EQ(report->models[0].model, version_);
}

TEST_F(RouterServiceTest, StopsWhileAStepWaitsForAnExpert) {
  settings_.dispatch.reload_wait_ms = 3'600'000;
  start();
  ASSERT_TRUE(gateway_->generate(endless(1)));
  gateway_->wait_begun(1);
  worker_.reset();
  scheduler_->publish(table({"nobody", 1, "direct://nobody"}));

  const Clock::time_point start = Clock::now();
  service_->stop();
  service_->stop();

  EXPECT_LT(Clock::now() - start, testkit::kPatience);
}

TEST_F(RouterServiceTest, RefusesAnAddressThatIsNone) {
  settings_.router.listen = "smoke://signals";

  const base::Status status = start_service();

  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
  service_->stop();
  EXPECT_FALSE(service_->ready());
}

TEST_F(RouterServiceTest, AnybodyMayAskWhetherItIsReadyAtAnyTime) {
  service_ = *RouterService::create(settings_, host_.context(), {process_.get(), compute_.get()});
  std::atomic<bool> over{false};
  std::thread asker([&] {
    while (!over) static_cast<void>(service_->ready());
  });

  EXPECT_TRUE(service_->start());
  service_->drain(Clock::now());
  service_->stop();

  over = true;
  asker.join();
}

}  // namespace
}  // namespace conclave::router
