#include "admin_api.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <fstream>
#include <future>

#include "conclave/catalog/access.hpp"
#include "conclave/catalog/json.hpp"
#include "conclave/catalog/open.hpp"

namespace conclave::registry {
namespace {

namespace fs = std::filesystem;
namespace json = boost::json;
using testing::HasSubstr;
using testing::Not;
using wire::AccessRole;
using wire::AdminReply;
using wire::AdminRequest;

const fs::path kModels = fs::path(CONCLAVE_SOURCE_DIR) / "tests/golden/models";

struct AdminApiTest : testing::Test {
  telemetry::Metrics metrics;
  std::unique_ptr<catalog::Catalog> catalog = catalog::open_catalog(":memory:").value();
  static std::chrono::system_clock::time_point wall_clock() {
    return std::chrono::system_clock::time_point(std::chrono::milliseconds(1'760'000'000'000));
  }
  Operations operations{*catalog, "registry-1/1", wall_clock, {}};
  JobThread jobs;
  artifacts::Store store{{}, wall_clock, metrics, {}};
  Registrar registrar{store, nullptr, metrics, [] { return std::chrono::steady_clock::now(); }, {}};
  AdminApi api{{*catalog, registrar, jobs, operations, wall_clock, "1.2.3"}};

  ~AdminApiTest() override {
    registrar.stop();
    jobs.stop();
  }

  AdminReply send(const std::string& method, const std::string& target,
                  const std::string& body = "", const std::string& if_match = "",
                  AccessRole role = AccessRole::kAdmin) {
    AdminRequest request;
    request.method = method;
    const std::size_t mark = std::min(target.find('?'), target.size());
    request.path = target.substr(0, mark);
    if (mark < target.size()) request.query = target.substr(mark + 1);
    request.body = body;
    request.if_match = if_match;
    request.request_id = "req-1";
    request.subject = {"acme", "key-1", role};
    return api.serve(request);
  }
  json::value body_of(const AdminReply& reply) {
    json::error_code error;
    json::value value = json::parse(reply.body, error);
    EXPECT_FALSE(error) << reply.body;
    return value;
  }
  // What came of the operation that a reply names, once it has ended.
  json::value outcome(const AdminReply& accepted) {
    EXPECT_EQ(accepted.status, 202) << accepted.body;
    // Both threads work in order: when a second job is done, so is the first.
    std::promise<void> ran;
    EXPECT_TRUE(jobs.run([&](const auto&) { ran.set_value(); }).has_value());
    ran.get_future().wait();
    std::promise<void> done;
    Registrar::Job job{.where = artifacts::Location::parse("/nowhere").value()};
    job.done = [&](auto) { done.set_value(); };
    EXPECT_TRUE(registrar.scan(std::move(job)).has_value());
    done.get_future().wait();
    return body_of(send("GET", accepted.location));
  }
  json::value registered(const std::string& name, const std::string& file,
                         const std::string& more = "") {
    const std::string uri = (kModels / file).string();
    return outcome(send("POST", "/admin/v1/models/" + name + "/versions",
                        R"({"uri":")" + uri + '"' + more + "}"));
  }
};

TEST_F(AdminApiTest, RegistersAFileAndShowsIt) {
  const json::value ended =
      registered("tiny", "qwen3moe-f32.gguf", R"(,"aliases":["production"],"licence":"MIT")");

  EXPECT_EQ(ended.at("state").as_string(), "done") << json::serialize(ended);
  EXPECT_EQ(ended.at("percent").to_number<int>(), 100);
  const AdminReply shown = send("GET", "/admin/v1/models/tiny/versions/1");
  EXPECT_EQ(shown.status, 200);
  EXPECT_THAT(shown.etag, testing::StartsWith("\""));
  const json::value version = body_of(shown);
  EXPECT_EQ(version.at("state").as_string(), "published");
  EXPECT_EQ(version.at("licence").as_string(), "MIT");
  const json::value models = body_of(send("GET", "/admin/v1/models"));
  EXPECT_EQ(models.at("data").as_array().size(), 1u);
  EXPECT_TRUE(models.at("next").is_null());
}

TEST_F(AdminApiTest, TheSameBytesAreTheSameVersion) {
  registered("tiny", "qwen3moe-f32.gguf");
  registered("tiny", "qwen3moe-f32.gguf");

  const json::value versions = body_of(send("GET", "/admin/v1/models/tiny/versions"));
  EXPECT_EQ(versions.at("data").as_array().size(), 1u);
}

TEST_F(AdminApiTest, ADryRunOfRegisteringReadsTheFileAndRecordsNothing) {
  const std::string uri = (kModels / "qwen3moe-f32.gguf").string();
  const json::value ended = outcome(
      send("POST", "/admin/v1/models/tiny/versions?dry_run=true", R"({"uri":")" + uri + "\"}"));

  EXPECT_EQ(ended.at("state").as_string(), "done") << json::serialize(ended);
  EXPECT_EQ(ended.at("result").at("version").to_number<int>(), 1);
  EXPECT_EQ(send("GET", "/admin/v1/models/tiny").status, 404);
  EXPECT_EQ(catalog->revision().value(), 0u);
}

TEST_F(AdminApiTest, AFileThatIsNoModelFailsItsOperation) {
  const json::value ended = registered("tiny", "nothing-here.gguf");

  EXPECT_EQ(ended.at("state").as_string(), "failed");
  EXPECT_THAT(std::string(ended.at("error").at("message").as_string()),
              HasSubstr("nothing-here.gguf"));
}

TEST_F(AdminApiTest, ADraftIsPublishedAndArchived) {
  registered("tiny", "qwen3moe-f32.gguf", R"(,"draft":true)");
  const std::string one = "/admin/v1/models/tiny/versions/1";
  EXPECT_EQ(body_of(send("GET", one)).at("state").as_string(), "draft");

  EXPECT_EQ(send("POST", one + ":publish?dry_run=true").status, 200);
  EXPECT_EQ(body_of(send("GET", one)).at("state").as_string(), "draft");
  EXPECT_EQ(send("POST", one + ":publish").status, 200);
  EXPECT_EQ(send("POST", one + ":archive").status, 200);
  EXPECT_EQ(body_of(send("GET", one)).at("state").as_string(), "archived");
  EXPECT_EQ(send("DELETE", one).status, 204);
  EXPECT_EQ(send("GET", one).status, 404);
}

TEST_F(AdminApiTest, NamesTheExpertWhoseBytesChanged) {
  const fs::path file = fs::temp_directory_path() / "conclave-admin-api-test.gguf";
  fs::copy_file(kModels / "qwen3moe-f32.gguf", file, fs::copy_options::overwrite_existing);
  outcome(send("POST", "/admin/v1/models/tiny/versions", R"({"uri":")" + file.string() + "\"}"));
  const std::string verify = "/admin/v1/models/tiny/versions/1:verify";
  EXPECT_TRUE(outcome(send("POST", verify)).at("result").at("ok").as_bool());
  {
    // The last tensor bytes of the file: whatever they belong to, one thing and no more.
    std::fstream bytes(file, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(-4096, std::ios::end);
    bytes.put('\x5a');
  }

  const json::value result = outcome(send("POST", verify)).at("result");

  EXPECT_FALSE(result.at("ok").as_bool());
  const std::size_t bad = result.at("bad_experts").as_array().size();
  EXPECT_EQ(bad + (result.at("backbone_ok").as_bool() ? 0 : 1), 1u) << json::serialize(result);
  const json::value audit = body_of(send("GET", "/admin/v1/audit?action=version.damaged"));
  EXPECT_EQ(audit.at("data").as_array().size(), 1u);
  fs::remove(file);
}

TEST_F(AdminApiTest, MovesAnAliasOnlyIfNobodyWasFaster) {
  registered("tiny", "qwen3moe-f32.gguf");
  registered("tiny", "qwen3moe-q8_0.gguf");
  const std::string alias = "/admin/v1/models/tiny/aliases/production";
  EXPECT_EQ(send("PUT", alias, R"({"version":1,"if_version":2})").status, 412);
  const AdminReply made = send("PUT", alias, R"({"version":1,"if_version":0})");
  EXPECT_EQ(made.status, 200) << made.body;

  EXPECT_EQ(send("PUT", alias, R"({"version":2})", made.etag).status, 200);
  EXPECT_EQ(send("PUT", alias, R"({"version":1})", made.etag).status, 412);

  EXPECT_EQ(body_of(send("GET", alias)).at("version").to_number<int>(), 2);
  EXPECT_EQ(send("POST", "/admin/v1/models/tiny/versions/2:archive").status, 409);
  EXPECT_EQ(send("DELETE", alias).status, 204);
}

TEST_F(AdminApiTest, ShowsASecretOnceAndRevokesItsKey) {
  EXPECT_EQ(send("POST", "/admin/v1/tenants", R"({"name":"acme"})").status, 201);
  const AdminReply made =
      send("POST", "/admin/v1/keys", R"({"tenant":"acme","name":"ci","models":["tiny"]})");
  ASSERT_EQ(made.status, 201) << made.body;
  const std::string secret(body_of(made).at("secret").as_string());
  const std::string id(body_of(made).at("id").as_string());
  EXPECT_TRUE(catalog->find_key_by_hash(catalog::secret_hash(secret)).has_value());

  const AdminReply listed = send("GET", "/admin/v1/keys?tenant=acme");
  EXPECT_THAT(listed.body, HasSubstr(id));
  EXPECT_THAT(listed.body, Not(HasSubstr(secret)));
  EXPECT_EQ(send("DELETE", "/admin/v1/keys/" + id).status, 200);
  EXPECT_FALSE(catalog::usable(*catalog->find_key(id), 1'760'000'000'000).has_value());
}

TEST_F(AdminApiTest, KeepsDeploymentsAndQuotas) {
  registered("tiny", "qwen3moe-f32.gguf");
  const std::string chat = "/admin/v1/deployments/chat";
  const AdminReply made = send("PUT", chat,
                               R"({"split":[{"reference":"tiny:1","weight":9}],)"
                               R"("replica_floor":2,"policy":"next-best","sticky":"user"})");
  ASSERT_EQ(made.status, 200) << made.body;
  EXPECT_EQ(body_of(send("GET", chat)).at("policy").as_string(), "next-best");
  EXPECT_EQ(send("PUT", chat, R"({"split":[{"reference":"other:1"}]})").status, 404);
  EXPECT_EQ(send("DELETE", chat).status, 204);

  send("POST", "/admin/v1/tenants", R"({"name":"acme"})");
  EXPECT_EQ(send("PUT", "/admin/v1/quotas/acme", R"({"tokens_per_day":1000})").status, 200);
  EXPECT_EQ(body_of(send("GET", "/admin/v1/quotas/acme")).at("tokens_per_day").to_number<int>(),
            1000);
}

TEST_F(AdminApiTest, TellsWhatWasUsedAndWhoDidWhat) {
  const std::vector<catalog::UsageRow> rows = {
      {"acme", "key-1", "tiny", catalog::parse_day("2025-10-09").value(), {1, 20, 3, 0, 0}}};
  ASSERT_TRUE(catalog->add_usage("b1", rows, 0).has_value());
  const json::value used = body_of(send("GET", "/admin/v1/usage?by=tenant"));
  EXPECT_EQ(used.at("data").at(0).at("prompt_tokens").to_number<int>(), 20);

  send("POST", "/admin/v1/models", R"({"name":"tiny"})");
  const json::value audit = body_of(send("GET", "/admin/v1/audit"));
  EXPECT_EQ(audit.at("data").at(0).at("actor").as_string(), "key:key-1");
  EXPECT_EQ(audit.at("data").at(0).at("request_id").as_string(), "req-1");
  EXPECT_EQ(send("GET", "/admin/v1/audit?format=jsonl").content_type, "application/jsonl");
}

TEST_F(AdminApiTest, WhoMayLookMayHaveTheAuditVerified) {
  send("POST", "/admin/v1/models", R"({"name":"tiny"})");

  const json::value ended =
      outcome(send("POST", "/admin/v1/audit:verify", "", "", AccessRole::kRead));

  EXPECT_EQ(ended.at("state").as_string(), "done") << json::serialize(ended);
  EXPECT_TRUE(ended.at("result").at("ok").as_bool());
  EXPECT_EQ(ended.at("result").at("records").to_number<int>(), 1);
  EXPECT_EQ(send("POST", "/admin/v1/audit:verify", "", "", AccessRole::kInference).status, 403);
  const json::value listed = body_of(send("GET", "/admin/v1/operations"));
  EXPECT_EQ(listed.at("data").at(0).at("id"), ended.at("id"));
}

TEST_F(AdminApiTest, NamesTheFieldThatIsAtFault) {
  const auto param_of = [this](const char* method, const std::string& target,
                               const std::string& body) {
    const json::value error =
        body_of(send(method, "/admin/v1/" + target, body)).at("error").at("param");
    return error.is_string() ? std::string(error.as_string()) : std::string("none");
  };
  const std::string bad_tag(300, 'x');

  EXPECT_EQ(param_of("POST", "models", R"({"name":"Not A Name"})"), "name");
  EXPECT_EQ(param_of("POST", "models", R"({"name":"a","tags":{"k":1}})"), "tags.k");
  EXPECT_EQ(param_of("POST", "models", R"({"name":"a","tags":{")" + bad_tag + R"(":"v"}})"),
            "tags");
  EXPECT_EQ(param_of("POST", "models", R"({"name":"a","nonsense":1})"), "nonsense");
  EXPECT_EQ(param_of("GET", "models?limit=0", ""), "limit");
  EXPECT_EQ(param_of("GET", "models/Not%20A%20Name", ""), "name");
  EXPECT_EQ(param_of("POST", "models/m/versions", R"({"uri":"/x","aliases":["No"]})"), "aliases");
  EXPECT_EQ(param_of("PUT", "models/m/aliases/a", R"({"version":-1})"), "version");
  EXPECT_EQ(param_of("PUT", "deployments/chat", R"({"split":[{"weight":-1}]})"), "split[0].weight");
  EXPECT_EQ(param_of("PUT", "deployments/chat", R"({"sort":1})"), "sort");
  EXPECT_EQ(param_of("POST", "keys", R"({"tenant":"acme","role":"root"})"), "role");
  EXPECT_EQ(param_of("GET", "usage?from=yesterday", ""), "from");
  EXPECT_EQ(param_of("GET", "usage?by=moon", ""), "by");
  EXPECT_EQ(param_of("POST", "models", "{"), "none");
  EXPECT_EQ(param_of("GET", "models/nobody", ""), "none");
}

TEST_F(AdminApiTest, DescribesEveryPath) {
  const json::value document = body_of(send("GET", "/admin/v1/openapi.json"));

  EXPECT_GT(document.at("paths").as_object().size(), 19u);
}

// What strangers, mistakes and attackers send, and the status that each gets.
struct Hostile {
  const char* method;
  std::string target;
  std::string body;
  int status;
};

std::vector<Hostile> hostile() {
  const std::string models = "/admin/v1/models";
  const std::string long_name(300, 'a');
  const std::string huge(100'000, 'x');
  return {
      // Injection: names are names, and what is none is refused.
      {"GET", models + "/x'%20OR%201=1--", "", 400},
      {"GET", models + "/x%27%3B%20DROP%20TABLE%20model%3B--", "", 400},
      {"GET", models + "?after='%3B%20DROP%20TABLE%20version%3B--", "", 400},
      {"GET", models + "/%00", "", 400},
      {"GET", models + "/..%2F..%2Fetc%2Fpasswd", "", 400},
      {"POST", models, R"({"name":"x'; DROP TABLE model;--"})", 400},
      {"POST", models, R"({"name":"$1"})", 400},
      {"POST", models, R"({"name":"a\u0000b"})", 400},
      {"POST", "/admin/v1/tenants", R"({"name":"a\"; --"})", 400},
      {"GET", "/admin/v1/usage?tenant=x'%20UNION%20SELECT%20secret", "", 200},
      {"GET", "/admin/v1/usage?model=%25", "", 200},
      {"GET", "/admin/v1/audit?actor=%27%20OR%201%3D1", "", 200},
      {"GET", "/admin/v1/audit?action=%25.*", "", 200},
      {"GET", "/admin/v1/keys/key-1'--", "", 405},
      {"DELETE", "/admin/v1/keys/key-1'--", "", 404},
      {"GET", "/admin/v1/keys?tenant=%27", "", 200},
      {"GET", "/admin/v1/deployments/%27%3B", "", 400},
      // Oversized.
      {"POST", models, R"({"name":")" + long_name + R"("})", 400},
      {"POST", models, R"({"name":"a","description":")" + huge + R"("})", 400},
      {"GET", models + "/" + long_name, "", 400},
      {"POST", "/admin/v1/keys", R"({"tenant":"acme","name":")" + huge + R"("})", 400},
      {"GET", models + "?limit=1001", "", 400},
      {"GET", models + "?limit=99999999999999999999999", "", 400},
      {"GET", "/admin/v1/usage?from=0001-01-01&to=9999-12-31", "", 400},
      {"POST", models, std::string(200'000, '['), 400},
      {"PUT", "/admin/v1/deployments/chat", R"({"split":[)" + huge + "]}", 400},
      // Malformed.
      {"POST", models, "", 400},
      {"POST", models, "{", 400},
      {"POST", models, "null", 400},
      {"POST", models, "[1]", 400},
      {"POST", models, R"({"name":7})", 400},
      {"POST", models, R"({"name":"a","nonsense":1})", 400},
      {"POST", models, R"({"name":"a","tags":[1]})", 400},
      {"POST", models, R"({"name":"a","tags":{"k":1}})", 400},
      {"POST", models, "{\"name\":\"\xff\"}", 400},
      {"GET", models + "?limit=0", "", 400},
      {"GET", models + "?limit=ten", "", 400},
      {"GET", models + "/tiny/versions/one", "", 404},
      {"GET", models + "/tiny/versions/-1", "", 404},
      {"GET", models + "/tiny/versions/4294967296", "", 404},
      {"GET", models + "/tiny/versions/1", "", 404},
      {"POST", models + "/tiny/versions", "{}", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"relative.gguf"})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"gopher://x/y"})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"/x","draft":"yes"})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"/x","aliases":"production"})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"/x","aliases":["Not A Name"]})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"/x","draft":true,"aliases":["a"]})", 400},
      {"POST", models + "/tiny/versions", R"({"uri":"/x","metadata":7})", 400},
      {"POST", models + "/UPPER/versions", R"({"uri":"/x"})", 400},
      {"POST", models + "/tiny/versions/1:publish", R"({"force":true})", 400},
      {"POST", models + "/tiny/versions/1:verify", "", 404},
      {"PUT", models + "/tiny/aliases/production", "{}", 400},
      {"PUT", models + "/tiny/aliases/production", R"({"version":-1})", 400},
      {"PUT", models + "/tiny/aliases/production", R"({"version":1.5})", 400},
      {"PUT", models + "/tiny/aliases/production", R"({"version":1})", 404},
      {"PUT", "/admin/v1/deployments/chat", "{}", 400},
      {"PUT", "/admin/v1/deployments/chat", R"({"split":[]})", 400},
      {"PUT", "/admin/v1/deployments/chat", R"({"split":[{"reference":"a","weight":0}]})", 400},
      {"PUT", "/admin/v1/deployments/chat", R"({"policy":"hope"})", 400},
      {"PUT", "/admin/v1/quotas/nobody", R"({"tokens_per_day":1})", 404},
      {"PUT", "/admin/v1/quotas/nobody", R"({"tokens_per_day":-1})", 400},
      {"POST", "/admin/v1/keys", R"({"name":"no tenant"})", 400},
      {"POST", "/admin/v1/keys", R"({"tenant":"nobody"})", 404},
      {"POST", "/admin/v1/keys", R"({"tenant":"acme","role":"root"})", 400},
      {"POST", "/admin/v1/keys", R"({"tenant":"acme","models":"tiny"})", 400},
      {"GET", "/admin/v1/usage?from=yesterday", "", 400},
      {"GET", "/admin/v1/usage?from=2025-02-30", "", 400},
      {"GET", "/admin/v1/usage?by=moon", "", 400},
      {"GET", "/admin/v1/audit?after=-1", "", 400},
      {"GET", "/admin/v1/audit?format=xml", "", 400},
      {"GET", "/admin/v1/operations/op-9-9", "", 404},
      {"GET", "/admin/v1/nothing", "", 404},
      {"GET", "/admin/v2/models", "", 404},
      {"PATCH", models, "{}", 405},
      {"BREW", models, "", 405},
      {"DELETE", models + "/nobody", "", 404},
  };
}

TEST_F(AdminApiTest, AnswersWhatIsHostileWithItsStatus) {
  for (const Hostile& request : hostile()) {
    SCOPED_TRACE(std::string(request.method) + " " + request.target.substr(0, 80) + " " +
                 request.body.substr(0, 60));
    const AdminReply reply = send(request.method, request.target, request.body);

    EXPECT_EQ(reply.status, request.status) << reply.body.substr(0, 300);
    EXPECT_TRUE(body_of(reply).is_object());
  }
  // And nothing of it happened.
  EXPECT_EQ(body_of(send("GET", "/admin/v1/models")).at("data").as_array().size(), 0u);
  EXPECT_EQ(body_of(send("GET", "/admin/v1/audit")).at("data").as_array().size(), 0u);
}

TEST_F(AdminApiTest, LetsNobodyDoWhatItsRoleForbids) {
  for (const Hostile& request : hostile()) {
    if (request.status == 404 || request.status == 405) continue;
    const bool reads = std::string_view(request.method) == "GET";
    for (const AccessRole role : {AccessRole::kNone, AccessRole::kInference, AccessRole::kRead}) {
      if (reads && role == AccessRole::kRead) continue;
      EXPECT_EQ(send(request.method, request.target, request.body, "", role).status, 403);
    }
  }
}

}  // namespace
}  // namespace conclave::registry
