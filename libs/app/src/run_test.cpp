#include "conclave/app/run.hpp"

#include <gmock/gmock.h>

#include <array>
#include <boost/json/parse.hpp>
#include <future>
#include <iostream>
#include <utility>
#include <vector>

#include "conclave/http/client.hpp"
#include "testing_child.hpp"
#include "testing_service.hpp"

namespace conclave::app {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

struct EchoSettings {
  int volume = 3;
  std::string word = "hello";

  template <class Visitor>
  void visit(Visitor&& v) {
    v("volume", volume, 0, 9, "How loud");
    v("word", word, "What to say");
  }
};

// A service as its author would write it; it logs what is done to it. The word says how it behaves.
class EchoService {
 public:
  static constexpr std::string_view kName = "echo";
  static constexpr std::string_view kDescription = "Says what it is told";
  struct Settings {
    EchoSettings echo;
    template <class V>
    void sections(V&& v) {
      v("echo", echo);
    }
  };

  static base::Result<std::unique_ptr<EchoService>> create(const Settings& settings,
                                                           ServiceContext& context) {
    if (settings.echo.word == "nonsense") {
      return base::fail(ErrorCode::kInvalidArgument, "echo.word makes no sense");
    }
    context.log.info("created", {{"word", settings.echo.word}, {"volume", settings.echo.volume}});
    return std::make_unique<EchoService>(settings, context);
  }
  EchoService(const Settings& settings, ServiceContext& context)
      : settings_(settings), context_(context) {}

  base::Status start() {
    if (settings_.echo.word == "busy") return base::fail(ErrorCode::kUnavailable, "line is busy");
    if (settings_.echo.word == "slow") {
      context_.log.info("loading");
      while (!context_.is_stopping()) sched_yield();
      return base::fail(ErrorCode::kCancelled, "told to stop");
    }
    if (settings_.echo.word == "fail") {
      context_.fail({ErrorCode::kUnavailable, "lost my voice"});
      context_.fail({ErrorCode::kInternal, "a consequence"});
    }
    return {};
  }
  base::Status ready() const { return {}; }
  void drain(std::chrono::steady_clock::time_point deadline) {
    const std::chrono::duration<double> left = deadline - context_.now();
    context_.log.info("drain", {{"seconds", left.count()}});
    if (settings_.echo.word == "stubborn") std::promise<void>().get_future().wait();
  }
  void stop() { context_.log.info("stop"); }

 private:
  const Settings& settings_;
  ServiceContext& context_;
};

int run_echo(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "conclave-echo");
  return run<EchoService>(static_cast<int>(arguments.size()), const_cast<char**>(arguments.data()));
}

// stderr of a child is a pipe, so its log is JSON; the endpoint takes any free port.
struct RunTest : testing::Test {
  static Child start(std::vector<const char*> arguments) {
    arguments.insert(arguments.end(), {"--admin.port", "0", "--node.name", "echo-1"});
    return Child([arguments] { return run_echo(arguments); });
  }
};

TEST_F(RunTest, LivesUntilSigtermAndLeavesInOrder) {
  Child child = start({"--echo.volume", "5"});
  const json::value created = json::parse(child.line_with("\"created\""));
  EXPECT_EQ(created.at("logger").as_string(), "echo");
  EXPECT_EQ(created.at("node").as_string(), "echo-1");
  EXPECT_EQ(created.at("volume").as_int64(), 5);
  EXPECT_THAT(child.line(), HasSubstr("\"started\""));
  child.send(SIGTERM);
  EXPECT_THAT(child.line(), AllOf(HasSubstr("\"stopping\""), HasSubstr("\"signal\":15")));
  const double seconds = json::parse(child.line_with("\"drain\"")).at("seconds").as_double();
  EXPECT_GT(seconds, 0);
  EXPECT_LE(seconds, 25);
  EXPECT_THAT(child.line(), HasSubstr("\"event\":\"stop\""));
  EXPECT_THAT(child.line(), HasSubstr("\"stopped\""));
  EXPECT_EQ(child.line(), "");
  EXPECT_EQ(child.wait(), kExitOk);
}

TEST_F(RunTest, AnswersProbesWhileItDrains) {
  Child child = start({"--echo.word", "stubborn"});
  const auto port = json::parse(child.line_with("\"starting\"")).at("admin_port").as_int64();
  const std::string url = "http://127.0.0.1:" + std::to_string(port);
  child.line_with("\"started\"");
  http::ClientRequest request;
  request.url = url + "/ready";
  EXPECT_EQ(http::fetch(request)->status, 200u);
  child.send(SIGINT);
  child.line_with("\"drain\"");
  EXPECT_EQ(http::fetch(request)->status, 503u);
  EXPECT_THAT(http::fetch(request)->body, HasSubstr("draining"));
  request.url = url + "/health";
  EXPECT_EQ(http::fetch(request)->status, 200u);
  request.url = url + "/metrics";
  EXPECT_THAT(http::fetch(request)->body,
              AllOf(HasSubstr("conclave_ready 0\n"),
                    HasSubstr("conclave_build_info{service=\"echo\",version=\"")));
}

TEST_F(RunTest, ASecondSignalDoesNotWaitForTheDrain) {
  Child child = start({"--echo.word", "stubborn"});
  child.line_with("\"started\"");
  child.send(SIGTERM);
  child.line_with("\"drain\"");
  child.send(SIGTERM);
  EXPECT_EQ(child.wait(), 128 + SIGTERM);
}

TEST_F(RunTest, StopsWhileItStarts) {
  Child child = start({"--echo.word", "slow"});
  child.line_with("\"loading\"");
  child.send(SIGTERM);
  EXPECT_THAT(child.line_with("\"stopp"), HasSubstr("\"stopping\""));
  EXPECT_EQ(child.wait(), kExitOk);
}

TEST_F(RunTest, AFailureOfARunningServiceEndsTheProcessInOrder) {
  Child child = start({"--echo.word", "fail"});
  EXPECT_THAT(child.line_with("\"service_failed\""),
              AllOf(HasSubstr("lost my voice"), HasSubstr("\"level\":\"error\"")));
  EXPECT_THAT(child.line_with("\"event\":\"stop\""), Not(IsEmpty()));
  EXPECT_EQ(child.wait(), kExitFailed);
}

TEST_F(RunTest, AServiceThatCannotStartIsARuntimeFailure) {
  Child child = start({"--echo.word", "busy"});
  EXPECT_THAT(child.line_with("\"start_failed\""), HasSubstr("unavailable: echo: line is busy"));
  EXPECT_EQ(child.wait(), kExitFailed);
}

TEST_F(RunTest, ASettingThatAServiceRefusesIsAUsageError) {
  Child child = start({"--echo.word", "nonsense", "--log.level", "off"});
  EXPECT_EQ(child.line(), "echo: invalid_argument: echo: echo.word makes no sense");
  EXPECT_EQ(child.wait(), kExitUsage);
}

TEST_F(RunTest, ACommandLineThatIsWrongIsOneLineAndUsage) {
  for (const auto& [arguments, says] :
       std::to_array<std::pair<std::vector<const char*>, const char*>>(
           {{{"--echo.volume", "99"}, "echo.volume"},
            {{"--echo.volum", "1"}, "echo.volum"},
            {{"--node.name", "Not_A_Name"}, "node.name"},
            {{"--log.level", "loud"}, "log.level"}})) {
    Child child([&arguments = arguments] { return run_echo(arguments); });
    EXPECT_THAT(child.line(), HasSubstr(says));
    EXPECT_EQ(child.line(), "");
    EXPECT_EQ(child.wait(), kExitUsage);
  }
}

TEST_F(RunTest, PrintsItsConfigurationAndVersionAndExits) {
  Child print([] { return run_echo({"--print-config", "--echo.volume", "7"}); });
  EXPECT_EQ(print.line_with("[echo]"), "[echo]");
  EXPECT_EQ(print.line_with("volume ="), "volume = 7");
  EXPECT_EQ(print.line_with("[node]"), "[node]");
  EXPECT_EQ(print.wait(), kExitOk);
  Child version([] { return run_echo({"--version"}); });
  EXPECT_THAT(version.line(), testing::MatchesRegex("[0-9]+\\.[0-9]+\\.[0-9]+"));
  EXPECT_EQ(version.wait(), kExitOk);
}

TEST_F(RunTest, RunsSeveralServicesInOneProcess) {
  Child child([] {
    ProcessSettings settings;
    settings.admin.port = 0;
    std::vector<ServiceRecipe> recipes;
    for (const char* name : {"first", "second"}) {
      ServiceRecipe& recipe = recipes.emplace_back();
      recipe.name = name;
      recipe.create = [name](ServiceContext& context) {
        return base::Result<std::unique_ptr<AnyService>>(
            std::make_unique<FakeService>(name, [&context](const std::string& what) {
              context.log.info("life", {{"what", what}});
            }));
      };
    }
    return run_process("serve", settings, recipes);
  });
  child.line_with("\"started\"");
  child.send(SIGTERM);
  EXPECT_THAT(child.line_with("drain"), HasSubstr("\"logger\":\"second\""));
  EXPECT_THAT(child.line(), HasSubstr("first drain"));
  EXPECT_THAT(child.line(), HasSubstr("second stop"));
  EXPECT_THAT(child.line(), HasSubstr("first stop"));
  EXPECT_EQ(child.wait(), kExitOk);
}

}  // namespace
}  // namespace conclave::app
