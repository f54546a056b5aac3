#include "conclave/admin/routes.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace conclave::admin {
namespace {

namespace json = boost::json;
using base::ErrorCode;
using testing::HasSubstr;
using wire::AccessRole;
using wire::AdminReply;
using wire::AdminRequest;

AdminRequest request(const std::string& method, const std::string& path,
                     AccessRole role = AccessRole::kAdmin) {
  AdminRequest request;
  request.method = method;
  request.path = path;
  request.subject = {"acme", "key-1", role};
  return request;
}

struct RoutesTest : testing::Test {
  Routes routes;

  RoutesTest() {
    add("GET", "/admin/v1/models");
    add("GET", "/admin/v1/models/{name}");
    add("DELETE", "/admin/v1/models/{name}");
    add("POST", "/admin/v1/models/{name}/versions/{version}:publish");
  }
  // Answers with what it was called for.
  void add(const std::string& method, const std::string& pattern) {
    routes.add({method,
                pattern,
                "Does it.",
                {{"limit", "how many"}},
                {{"text", "what"}},
                [pattern](const Call& call) -> base::Result<AdminReply> {
                  json::object seen{{"pattern", pattern}};
                  if (pattern.find("{name}") != std::string::npos) seen["name"] = call.text("name");
                  if (pattern.find("{version}") != std::string::npos) {
                    CONCLAVE_TRY(seen["version"], call.number("version"));
                  }
                  CONCLAVE_TRY(seen["limit"], call.limit());
                  CONCLAVE_TRY(seen["dry_run"], call.dry_run());
                  CONCLAVE_TRY(const auto revision, call.if_match());
                  if (revision) seen["if_match"] = *revision;
                  CONCLAVE_TRY(const auto body, call.body({"text", "number"}));
                  CONCLAVE_TRY(const auto text, text_member(body, "text"));
                  if (text) seen["text"] = *text;
                  CONCLAVE_TRY(const auto number, number_member(body, "number", 7));
                  if (number) seen["number"] = *number;
                  return json_reply(seen, 5);
                }});
  }
  static std::string code_of(const AdminReply& reply) {
    return std::string(json::parse(reply.body).at("error").at("code").as_string());
  }
};

TEST_F(RoutesTest, GivesARequestToTheHandlerOfItsPattern) {
  const AdminReply reply =
      routes.serve(request("POST", "/admin/v1/models/qwen%2e3/versions/7:publish"));

  EXPECT_EQ(reply.status, 200);
  EXPECT_EQ(reply.etag, "\"5\"");
  const json::value seen = json::parse(reply.body);
  EXPECT_EQ(seen.at("name").as_string(), "qwen.3");
  EXPECT_EQ(seen.at("version").to_number<int>(), 7);
}

TEST_F(RoutesTest, NamesTheFieldThatIsAtFault) {
  const auto param_of = [this](const std::string& query, const std::string& body,
                               const std::string& if_match = "") {
    AdminRequest asked = request("GET", "/admin/v1/models/tiny");
    asked.query = query;
    asked.body = body;
    asked.if_match = if_match;
    const json::value error = json::parse(routes.serve(asked).body).at("error");
    return error.at("param").is_null() ? "none" : std::string(error.at("param").as_string());
  };

  EXPECT_EQ(param_of("limit=ten", ""), "limit");
  EXPECT_EQ(param_of("", R"({"text":7})"), "text");
  EXPECT_EQ(param_of("", R"({"nonsense":7})"), "nonsense");
  EXPECT_EQ(param_of("", "", "x"), "If-Match");
  EXPECT_EQ(param_of("", "[]"), "none");               // the body as a whole
  EXPECT_EQ(param_of("", R"({"number":8})"), "none");  // which the route does not say it has
}

TEST_F(RoutesTest, ReadsArgumentsConditionAndBody) {
  AdminRequest asked = request("GET", "/admin/v1/models");
  asked.query = "limit=5&dry_run=true";
  asked.if_match = "\"12\"";
  asked.body = R"({"text":"hi","number":7})";

  const json::value seen = json::parse(routes.serve(asked).body);

  EXPECT_EQ(json::serialize(seen), R"({"pattern":"/admin/v1/models","limit":5,"dry_run":true,)"
                                   R"("if_match":12,"text":"hi","number":7})");
}

TEST_F(RoutesTest, RefusesWhatIsMalformedByName) {
  struct Case {
    std::string query, if_match, body, named;
  };
  const Case cases[] = {
      {"limit=0", "", "", "limit"},
      {"limit=1001", "", "", "limit"},
      {"limit=-1", "", "", "limit"},
      {"limit=5x", "", "", "limit"},
      {"limit=99999999999999999999", "", "", "limit"},
      {"dry_run=yes", "", "", "dry_run"},
      {"", "12", "", "If-Match"},
      {"", "\"x\"", "", "If-Match"},
      {"", "\"\"", "", "If-Match"},
      {"", "W/\"12\"", "", "If-Match"},
      {"", "", "{", "JSON"},
      {"", "", "[]", "object"},
      {"", "", "7", "object"},
      {"", "", R"({"text":7})", "text"},
      {"", "", R"({"number":-1})", "number"},
      {"", "", R"({"number":8})", "number"},
      {"", "", R"({"number":1.5})", "number"},
      {"", "", R"({"other":1})", "other"},
      {"", "", std::string(100'000, '['), "JSON"},
  };
  for (const Case& given : cases) {
    SCOPED_TRACE(given.query + given.if_match + given.body.substr(0, 40));
    AdminRequest asked = request("GET", "/admin/v1/models");
    asked.query = given.query;
    asked.if_match = given.if_match;
    asked.body = given.body;

    const AdminReply reply = routes.serve(asked);

    EXPECT_EQ(reply.status, 400);
    EXPECT_THAT(reply.body, HasSubstr(given.named));
  }
}

TEST_F(RoutesTest, SaysWhatAPathTakes) {
  const AdminReply reply = routes.serve(request("PUT", "/admin/v1/models/qwen"));

  EXPECT_EQ(reply.status, 405);
  EXPECT_THAT(reply.body, HasSubstr("GET, DELETE"));
}

TEST_F(RoutesTest, KnowsNothingElse) {
  for (const char* path :
       {"", "/", "/admin/v1/models/", "/admin/v1/models/a/b", "/admin/v1/models/a/versions/7",
        "/admin/v1/models/a/versions/7:publish/", "/admin/v1/models/a/versions/7:archive",
        "/admin/v1/models//versions/7:publish", "/admin/v1/models/%zz", "admin/v1/models"}) {
    SCOPED_TRACE(path);
    EXPECT_EQ(routes.serve(request("GET", path)).status, 404);
    EXPECT_EQ(routes.serve(request("POST", path)).status == 404 ||
                  routes.serve(request("POST", path)).status == 405,
              true);
  }
  EXPECT_EQ(routes.serve(request("POST", "/admin/v1/models/a/versions/x:publish")).status, 404);
}

TEST_F(RoutesTest, LetsThoseLookWhoMayReadAndThoseChangeWhoMayAll) {
  EXPECT_EQ(routes.serve(request("GET", "/admin/v1/models", AccessRole::kRead)).status, 200);
  for (const AccessRole role : {AccessRole::kNone, AccessRole::kInference}) {
    EXPECT_EQ(routes.serve(request("GET", "/admin/v1/models", role)).status, 403);
  }
  const AdminReply reply = routes.serve(request("DELETE", "/admin/v1/models/a", AccessRole::kRead));
  EXPECT_EQ(reply.status, 403);
  EXPECT_EQ(code_of(reply), "forbidden");
}

TEST_F(RoutesTest, DescribesItself) {
  const json::object document = openapi(routes.all(), "1.2.3");

  const json::value& publish =
      document.at("paths").at("/admin/v1/models/{name}/versions/{version}:publish").at("post");
  EXPECT_EQ(publish.at("parameters").as_array().size(), 3u);
  EXPECT_TRUE(publish.at("requestBody").is_object());
  EXPECT_EQ(document.at("paths").at("/admin/v1/models/{name}").as_object().size(), 2u);
}

TEST(ErrorReplyTest, HasAStatusForEveryCode) {
  for (int code = 1; code <= base::kErrorCodeCount; ++code) {
    const AdminReply reply = error_reply({static_cast<ErrorCode>(code), "why \"so\""});
    EXPECT_GE(reply.status, 400);
    EXPECT_EQ(json::parse(reply.body).at("error").at("message").as_string(), "why \"so\"");
    EXPECT_EQ(reply.retry_after_s != 0, reply.status == 429 || reply.status == 503);
  }
}

}  // namespace
}  // namespace conclave::admin
