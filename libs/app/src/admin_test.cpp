#include "conclave/app/admin.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <mutex>

#include "conclave/http/client.hpp"

namespace conclave::app {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using testing::HasSubstr;

struct AdminTest : testing::Test {
  telemetry::Metrics metrics;
  std::mutex mutex;
  base::Status ready = base::fail(ErrorCode::kUnavailable, "no placement yet");
  Admin admin = Admin::start({"127.0.0.1", 0}, sources()).value();

  AdminSources sources() {
    return {[this] {
              const std::lock_guard lock(mutex);
              return ready;
            },
            metrics,
            "router",
            "router-1",
            "1.2.3",
            [] { return std::chrono::system_clock::time_point(std::chrono::seconds(0)); }};
  }
  http::Response send(const std::string& path, const std::string& method = "GET") {
    http::ClientRequest request;
    request.method = method;
    request.url = "http://127.0.0.1:" + std::to_string(admin.port()) + path;
    auto response = http::fetch(request);
    EXPECT_TRUE(response.has_value()) << response.error().to_string();
    return response ? *std::move(response) : http::Response();
  }
};

TEST_F(AdminTest, IsHealthyAsLongAsItAnswers) {
  const http::Response response = send("/health");
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(json::parse(response.body).at("status").as_string(), "ok");
  EXPECT_EQ(response.header("date"), "Thu, 01 Jan 1970 00:00:00 GMT");
}

TEST_F(AdminTest, SaysWhyItIsNotReadyAndWhenItIs) {
  http::Response response = send("/ready");
  EXPECT_EQ(response.status, 503u);
  EXPECT_EQ(json::parse(response.body),
            json::value({{"ready", false}, {"reason", "no placement yet"}}));
  {
    const std::lock_guard lock(mutex);
    ready = {};
  }
  response = send("/ready");
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(json::parse(response.body), json::value({{"ready", true}}));
}

TEST_F(AdminTest, ShowsTheMetrics) {
  metrics.counter("conclave_calls_total", "Calls").add(2);
  const http::Response response = send("/metrics");
  EXPECT_EQ(response.status, 200u);
  EXPECT_EQ(response.header("content-type"), telemetry::kExpositionContentType);
  EXPECT_THAT(response.body, HasSubstr("conclave_calls_total 2\n"));
}

TEST_F(AdminTest, SaysWhatRuns) {
  EXPECT_EQ(json::parse(send("/version").body),
            json::value({{"service", "router"}, {"node", "router-1"}, {"version", "1.2.3"}}));
}

TEST_F(AdminTest, AnswersHeadForProbesThatUseIt) {
  const http::Response response = send("/ready", "HEAD");
  EXPECT_EQ(response.status, 503u);
  EXPECT_EQ(response.body, "");
}

TEST_F(AdminTest, RefusesOtherPathsAndMethods) {
  http::Response response = send("/admin");
  EXPECT_EQ(response.status, 404u);
  EXPECT_THAT(json::parse(response.body).at("error").at("message").as_string().c_str(),
              HasSubstr("/metrics"));
  response = send("/ready", "POST");
  EXPECT_EQ(response.status, 405u);
  EXPECT_EQ(response.header("allow"), "GET, HEAD");
  EXPECT_TRUE(json::parse(response.body).at("error").is_object());
}

TEST_F(AdminTest, RefusesAPortThatIsTakenAndAnAddressThatIsNone) {
  const auto taken = Admin::start({"127.0.0.1", admin.port()}, sources());
  ASSERT_FALSE(taken.has_value());
  EXPECT_EQ(taken.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(taken.error().message, HasSubstr("admin endpoint"));
  const auto nowhere = Admin::start({"not an address", 0}, sources());
  ASSERT_FALSE(nowhere.has_value());
  EXPECT_EQ(nowhere.error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::app
