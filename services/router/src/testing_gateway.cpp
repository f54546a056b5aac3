#include "testing_gateway.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <caf/all.hpp>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "conclave/fabric/node.hpp"

namespace conclave::router {

class TestGateway::Impl {
 public:
  Impl(fleet::Process& process, const std::string& name, const std::string& router)
      : system_(process.system()), name_(name) {
    fabric::NodeSettings settings;
    settings.reconnect_ms = 10;
    node_ = fabric::Node::create(process.context(), system_,
                                 {name, wire::NodeRole::kGateway, next_incarnation()}, settings)
                .value();
    const auto streams = system_.spawn([this](fabric::StreamsActor::pointer) {
      return fabric::StreamsActor::behavior_type{
          [this](const wire::TokenEvents& events) { hear(events); }};
    });
    actor_ = caf::actor_cast<caf::actor>(streams);
    node_->publish(fabric::kStreamsActor, streams, fabric::Run::kScheduled);
    node_->on_link([this](const fabric::LinkEvent& event) {
      if (event.up) up_.add(event.link);
    });
    link_ = node_->connect(router, wire::NodeRole::kRouter).value();
    EXPECT_EQ(up_.wait(), link_);
    router_ = node_->remote<fabric::InferenceActor>(link_, fabric::kInferenceActor);
  }

  ~Impl() {
    node_->stop(std::chrono::milliseconds(100));
    caf::anon_send_exit(actor_, caf::exit_reason::user_shutdown);
    caf::scoped_actor self{system_};
    self->wait_for(actor_);
  }

  template <class Reply, class Message>
  base::Result<Reply> ask(Message message) {
    return testkit::ask<Reply>(system_, router_, std::move(message));
  }
  void cancel(wire::CancelStream cancel) { caf::anon_send(router_, std::move(cancel)); }
  [[nodiscard]] const std::string& name() const { return name_; }

  template <class Predicate>
  void wait(std::uint64_t stream, Predicate predicate) {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(
        heard_more_.wait_for(lock, testkit::kPatience, [&] { return predicate(heard_[stream]); }));
  }
  HeardStream take(std::uint64_t stream) {
    const std::lock_guard lock(mutex_);
    return std::exchange(heard_[stream], {});
  }

 private:
  static std::uint64_t next_incarnation() {
    static std::uint64_t last = 0;
    return ++last;
  }

  void hear(const wire::TokenEvents& message) {
    const std::lock_guard lock(mutex_);
    for (const wire::StreamEvents& events : message.streams) {
      HeardStream& stream = heard_[events.stream];
      for (const wire::TokenEvent& event : events.prompt) {
        stream.prompt.push_back(event);
        if (!stream.choices.empty()) stream.prompt_came_first = false;
      }
      for (const wire::TokenEvent& event : events.tokens) hear(stream, event);
    }
    heard_more_.notify_all();
  }

  static void hear(HeardStream& stream, const wire::TokenEvent& event) {
    if (stream.choices.size() <= event.choice) stream.choices.resize(event.choice + 1);
    Heard& choice = stream.choices[event.choice];
    EXPECT_EQ(choice.finish, wire::FinishReason::kNone) << "something came after the end";
    choice.text += event.text;
    choice.finish = event.finish;
    choice.error = event.error;
    if (event.token < 0) return;
    choice.tokens.push_back(event.token);
    choice.events.push_back(event);
  }

  caf::actor_system& system_;
  const std::string name_;
  std::unique_ptr<fabric::Node> node_;
  caf::actor actor_;
  testkit::Events<fabric::LinkId> up_;
  fabric::LinkId link_ = 0;
  fabric::InferenceActor router_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable heard_more_;
  std::map<std::uint64_t, HeardStream> heard_;
};

TestGateway::TestGateway(fleet::Process& process, const std::string& name,
                         const std::string& router)
    : impl_(std::make_unique<Impl>(process, name, router)) {}
TestGateway::~TestGateway() = default;

base::Result<wire::Accepted> TestGateway::generate(wire::Generate request) {
  request.gateway = impl_->name();
  return impl_->ask<wire::Accepted>(std::move(request));
}

void TestGateway::cancel(wire::CancelStream cancel) { impl_->cancel(std::move(cancel)); }

base::Result<wire::TokenizeReply> TestGateway::tokenize(const wire::TokenizeRequest& request) {
  return impl_->ask<wire::TokenizeReply>(request);
}

base::Result<wire::DetokenizeReply> TestGateway::detokenize(
    const wire::DetokenizeRequest& request) {
  return impl_->ask<wire::DetokenizeReply>(request);
}

HeardStream TestGateway::wait(std::uint64_t stream, std::size_t choices) {
  impl_->wait(stream, [choices](const HeardStream& heard) {
    return static_cast<std::size_t>(std::ranges::count_if(heard.choices, [](const Heard& choice) {
             return choice.finish != wire::FinishReason::kNone;
           })) == choices;
  });
  return impl_->take(stream);
}

void TestGateway::wait_begun(std::uint64_t stream) {
  impl_->wait(stream, [](const HeardStream& heard) {
    return !heard.choices.empty() && !heard.choices[0].tokens.empty();
  });
}

}  // namespace conclave::router
