#include "fleet_admin.hpp"

#include <gmock/gmock.h>

#include <boost/json/parse.hpp>

#include "testing_fleet.hpp"

namespace conclave::scheduler {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;
using test::FakeFleet;
using test::version_of;

struct FleetAdminTest : testing::Test {
  FakeFleet fleet;
  std::optional<FleetAdmin> admin;

  FleetAdminTest() {
    fleet.make_planner_ = [] { return std::make_unique<placement::EplbFtPlanner>(); };
    fleet.restart_scheduler();
    admin.emplace(*fleet.core_, [this] { return fleet.now_; });
  }

  wire::AdminReply send(const std::string& method, const std::string& target,
                        const std::string& body = "") {
    wire::AdminRequest request;
    request.method = method;
    const std::size_t mark = std::min(target.find('?'), target.size());
    request.path = target.substr(0, mark);
    if (mark < target.size()) request.query = target.substr(mark + 1);
    request.body = body;
    request.subject.role = wire::AccessRole::kAdmin;
    return admin->serve(request);
  }
  json::value get(const std::string& target) { return json::parse(send("GET", target).body); }
  void start(int workers) {
    for (int i = 0; i < workers; ++i) fleet.add_worker(std::string(1, static_cast<char>('a' + i)));
    fleet.add_router("r");
    fleet.run(5s);
    ASSERT_TRUE(fleet.fleet().complete()) << fleet.fleet().reason;
  }
};

TEST_F(FleetAdminTest, SaysWhoRefusedAnExpert) {
  start(2);
  wire::NodeReport report = fleet.workers_.at("a").report();
  report.refused = {{version_of(1), 2, 5, "wrong bytes"}};
  ASSERT_TRUE(fleet.core_->on_report(report, fleet.now_));

  const json::value layer = get("/admin/v1/experts?layer=2");

  for (const json::value& expert : layer.at("data").as_array()) {
    const json::array& refused = expert.at("refused").as_array();
    if (expert.at("expert").to_number<int>() != 5) {
      EXPECT_TRUE(refused.empty());
      continue;
    }
    ASSERT_EQ(refused.size(), 1u);
    EXPECT_EQ(refused[0].at("worker").as_string(), "a");
    EXPECT_EQ(refused[0].at("reason").as_string(), "wrong bytes");
  }
  const auto events = fleet.core_->refusals().take_events();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].action, "expert.refused");
}

TEST_F(FleetAdminTest, ListsExpertsTheHottestFirst) {
  start(2);
  for (auto& [name, worker] : fleet.workers_) {
    if (worker.hosted().test(2, 5)) worker.pairs[{2, 5}] = 1000;
  }
  fleet.run(10s);

  const json::value top = get("/admin/v1/experts?by=load&limit=1");

  EXPECT_EQ(top.at("data").at(0).at("layer").to_number<int>(), 2);
  EXPECT_EQ(top.at("data").at(0).at("expert").to_number<int>(), 5);
  EXPECT_GT(top.at("data").at(0).at("pairs_per_second").to_number<double>(), 0);
  EXPECT_EQ(top.at("next").to_number<int>(), 1);
  const json::value layer = get("/admin/v1/experts?layer=3");
  EXPECT_EQ(layer.at("data").as_array().size(), 8u);
  EXPECT_TRUE(layer.at("next").is_null());
}

TEST_F(FleetAdminTest, DrainsAWorkerWithoutAMomentInWhichAnExpertIsNowhere) {
  start(3);
  ASSERT_EQ(send("POST", "/admin/v1/workers/a:drain").status, 200);

  fleet.run(20s);  // the fleet's own checks watch every table

  EXPECT_EQ(fleet.workers_.at("a").hosted().count(), 0u);
  EXPECT_TRUE(fleet.fleet().complete());
  EXPECT_EQ(send("POST", "/admin/v1/workers/a:uncordon").status, 200);
  fleet.run(20s);
  EXPECT_GT(fleet.workers_.at("a").hosted().count(), 0u);
}

TEST_F(FleetAdminTest, ACordonedWorkerKeepsWhatItHasAndGetsNothing) {
  start(2);
  const auto before = fleet.workers_.at("a").hosted();
  ASSERT_EQ(send("POST", "/admin/v1/workers/a:cordon").status, 200);
  fleet.kill("b");
  fleet.run(20s);

  EXPECT_EQ(fleet.workers_.at("a").hosted(), before);
  EXPECT_FALSE(fleet.fleet().complete());
  const json::value workers = get("/admin/v1/workers");
  EXPECT_EQ(workers.at("data").at(0).at("standing").as_string(), "cordoned");
}

TEST_F(FleetAdminTest, MovesAnExpertAndLetsItGoAgain) {
  start(3);
  ASSERT_EQ(send("POST", "/admin/v1/experts/1/4:move", R"({"workers":["b"]})").status, 200);
  fleet.run(20s);
  EXPECT_EQ(fleet.core_->find()->rollout.hosts_of(1, 4), std::vector<std::string>{"b"});

  ASSERT_EQ(send("POST", "/admin/v1/experts/1/4:pin", R"({"kind":"never","workers":["b"]})").status,
            200);
  fleet.run(20s);
  EXPECT_THAT(fleet.core_->find()->rollout.hosts_of(1, 4),
              testing::Not(testing::Contains(std::string("b"))));
  EXPECT_EQ(get("/admin/v1/placement").at("pins").as_array().size(), 1u);
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/4:unpin").status, 204);
  EXPECT_EQ(get("/admin/v1/placement").at("pins").as_array().size(), 0u);
}

TEST_F(FleetAdminTest, ShowsAPlanAndDoesNothing) {
  start(2);
  const std::uint64_t plans = fleet.core_->stats().plans_total;

  const wire::AdminReply plan = send("POST", "/admin/v1/placement:plan");

  EXPECT_EQ(plan.status, 200);
  EXPECT_EQ(json::parse(plan.body).at("moves").to_number<int>(), 0);
  EXPECT_EQ(json::parse(plan.body).at("workers").as_array().size(), 2u);
  EXPECT_EQ(fleet.core_->stats().plans_total, plans);
  EXPECT_EQ(send("POST", "/admin/v1/placement:apply").status, 200);
  EXPECT_EQ(fleet.core_->stats().plans_total, plans + 1);
}

TEST_F(FleetAdminTest, SaysWhatIsWrong) {
  EXPECT_EQ(send("GET", "/admin/v1/placement").status, 200);  // a model, and nobody yet
  start(1);
  EXPECT_EQ(send("POST", "/admin/v1/workers/nobody:drain").status, 404);
  EXPECT_EQ(send("POST", "/admin/v1/workers/r:drain").status, 404);    // a router
  EXPECT_EQ(send("POST", "/admin/v1/experts/0/0:unpin").status, 404);  // a dense layer
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/8:unpin").status, 404);
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/1:move", "{}").status, 400);
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/1:move", R"({"workers":["zz"]})").status, 404);
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/1:pin", R"({"kind":"maybe"})").status, 400);
  EXPECT_EQ(send("POST", "/admin/v1/experts/1/1:pin", R"({"kind":"only"})").status, 400);
  EXPECT_EQ(send("GET", "/admin/v1/experts?by=colour").status, 400);
}

}  // namespace
}  // namespace conclave::scheduler
