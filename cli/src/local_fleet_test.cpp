#include "local_fleet.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace conclave::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

devices::Machine machine_with(std::vector<unsigned> cpus) {
  devices::Machine machine;
  machine.cpus = devices::CpuSet(std::move(cpus));
  machine.memory_limit_bytes = 4000;
  return machine;
}

LocalFleet fleet_of(std::uint32_t workers, std::uint32_t routers) {
  LocalFleet fleet;
  fleet.programs = "/bin";
  fleet.state = "/state";
  fleet.keys = "/state/keys";
  fleet.model = "/model.gguf";
  fleet.reference = "demo@current";
  fleet.workers = workers;
  fleet.routers = routers;
  fleet.registry_ports = {11};
  fleet.database = "/state/registry.db";
  fleet.scheduler_ports = {12};
  return fleet;
}

const ChildSpec& child(const std::vector<ChildSpec>& children, const std::string& name) {
  return *std::ranges::find(children, name, &ChildSpec::name);
}

// What follows `flag`; "-" if it is not there.
std::string value(const ChildSpec& child, const std::string& flag) {
  const auto found = std::ranges::find(child.arguments, flag);
  return found == child.arguments.end() ? "-" : *(found + 1);
}

bool has(const ChildSpec& child, const std::string& argument) {
  return std::ranges::count(child.arguments, argument) > 0;
}

TEST(LocalFleetTest, NamesItsProcesses) {
  const auto children = processes_of(fleet_of(2, 2), machine_with({0, 1}));
  std::vector<std::string> names;
  for (const ChildSpec& each : children) names.push_back(each.name);
  EXPECT_THAT(names, ElementsAre("registry", "scheduler", "worker-1", "worker-2", "router-1",
                                 "router-2", "gateway"));
  EXPECT_EQ(child(children, "worker-2").arguments.front(), "/bin/conclave-expert-worker");
  EXPECT_EQ(value(child(children, "worker-2"), "--node.name"), "worker-2");
}

TEST(LocalFleetTest, EndsRequestsFirstAndPlansNoMovesThen) {
  const auto children = processes_of(fleet_of(1, 1), machine_with({0}));
  EXPECT_LT(child(children, "gateway").stage, child(children, "router-1").stage);
  EXPECT_LT(child(children, "router-1").stage, child(children, "scheduler").stage);
  EXPECT_EQ(child(children, "scheduler").stage, child(children, "registry").stage);
  EXPECT_LT(child(children, "scheduler").stage, child(children, "worker-1").stage);
}

TEST(LocalFleetTest, ConnectsItsProcesses) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.host = "0.0.0.0";
  fleet.port = 80;
  const auto children = processes_of(fleet, machine_with({0}));
  EXPECT_EQ(scheduler_addresses(fleet), "tcp://127.0.0.1:12");
  EXPECT_EQ(value(child(children, "registry"), "--registry.listen"), "tcp://127.0.0.1:11");
  EXPECT_EQ(value(child(children, "registry"), "--registry.models"), "/model.gguf");
  EXPECT_EQ(value(child(children, "scheduler"), "--scheduler.listen"), scheduler_addresses(fleet));
  EXPECT_EQ(value(child(children, "scheduler"), "--scheduler.registry"), "tcp://127.0.0.1:11");
  EXPECT_EQ(value(child(children, "scheduler"), "--scheduler.model"), "demo@current");
  for (const char* name : {"worker-1", "router-1", "gateway"}) {
    EXPECT_EQ(value(child(children, name), "--fleet.scheduler"), scheduler_addresses(fleet))
        << name;
  }
  EXPECT_EQ(value(child(children, "gateway"), "--gateway.host"), "0.0.0.0");
  EXPECT_EQ(value(child(children, "gateway"), "--gateway.port"), "80");
  for (const ChildSpec& each : children) EXPECT_EQ(value(each, "--fabric.keys"), "/state/keys");
}

TEST(LocalFleetTest, GatewaysShareARedisThatOnlyTheySee) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.port = 80;
  fleet.more_ports = {81};
  fleet.redis = "redis://:secret@host";
  const auto children = processes_of(fleet, machine_with({0}));
  for (const ChildSpec& each : children) {
    const bool is_gateway = each.name.starts_with("gateway");
    EXPECT_EQ(each.environment == std::vector<std::string>{"CONCLAVE_GATEWAY_REDIS=" + fleet.redis},
              is_gateway)
        << each.name;
    for (const std::string& argument : each.arguments) {
      EXPECT_THAT(argument, testing::Not(HasSubstr("secret"))) << each.name;
    }
  }
  EXPECT_EQ(value(child(children, "gateway-2"), "--gateway.port"), "81");
  EXPECT_NE(value(child(children, "gateway"), "--gateway.usage-spool"),
            value(child(children, "gateway-2"), "--gateway.usage-spool"));
}

TEST(LocalFleetTest, RegistriesShareADatabaseThatOnlyTheySee) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.registry_ports = {11, 13};
  fleet.database = "postgresql://user:secret@host/name";
  fleet.admin_key = "/state/admin.key";
  fleet.postgres = ChildSpec{"postgres", {"/bin/postgres"}};
  const auto children = processes_of(fleet, machine_with({0}));
  for (const char* name : {"registry-1", "registry-2"}) {
    EXPECT_THAT(child(children, name).environment,
                ElementsAre("CONCLAVE_REGISTRY_DATABASE=" + fleet.database));
    EXPECT_EQ(value(child(children, name), "--registry.admin-key-file"), "/state/admin.key");
  }
  EXPECT_EQ(value(child(children, "gateway"), "--gateway.registry"),
            "tcp://127.0.0.1:11,tcp://127.0.0.1:13");
  EXPECT_EQ(value(child(children, "scheduler"), "--scheduler.registry"),
            "tcp://127.0.0.1:11,tcp://127.0.0.1:13");
  EXPECT_GT(child(children, "postgres").stage, child(children, "registry-1").stage);
  for (const ChildSpec& each : children) {
    for (const std::string& argument : each.arguments) {
      EXPECT_THAT(argument, testing::Not(HasSubstr("secret"))) << each.name;
    }
  }
}

TEST(LocalFleetTest, OfSeveralSchedulersEveryNodeKnowsAll) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.scheduler_ports = {12, 14};
  const auto children = processes_of(fleet, machine_with({0}));
  for (const char* name : {"worker-1", "router-1", "gateway"}) {
    EXPECT_EQ(value(child(children, name), "--fleet.scheduler"),
              "tcp://127.0.0.1:12,tcp://127.0.0.1:14")
        << name;
  }
  EXPECT_EQ(value(child(children, "scheduler-2"), "--scheduler.listen"), "tcp://127.0.0.1:14");
  EXPECT_TRUE(has(child(children, "scheduler-2"), "--scheduler.elect=true"));
  const auto alone = processes_of(fleet_of(1, 1), machine_with({0}));
  EXPECT_TRUE(has(child(alone, "scheduler"), "--scheduler.elect=false"));
}

TEST(LocalFleetTest, WorkersShareMemoryAndProcessors) {
  const auto three = processes_of(fleet_of(3, 1), machine_with({0, 1, 4, 5}));
  EXPECT_EQ(value(child(three, "worker-1"), "--expert-worker.device"), "cpu:0");
  EXPECT_EQ(value(child(three, "worker-2"), "--expert-worker.device"), "cpu:1");
  EXPECT_EQ(value(child(three, "worker-3"), "--expert-worker.device"), "cpu:4-5");
  EXPECT_EQ(value(child(three, "worker-3"), "--expert-worker.memory-bytes"), "1000");
  const auto crowd = processes_of(fleet_of(3, 1), machine_with({2, 3}));
  EXPECT_EQ(value(child(crowd, "worker-2"), "--expert-worker.device"), "cpu:3");
  EXPECT_EQ(value(child(crowd, "worker-3"), "--expert-worker.device"), "cpu:2");
}

TEST(LocalFleetTest, SettingsReachTheServicesThatHaveThem) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.settings = {"router.batch.sequences-max=3", "fabric.heartbeat-ms=50",
                    "fabric.data.calls-max=2", "fleet.report-ms=20"};
  const auto children = processes_of(fleet, machine_with({0}));
  EXPECT_TRUE(has(child(children, "router-1"), "--router.batch.sequences-max=3"));
  EXPECT_FALSE(has(child(children, "gateway"), "--router.batch.sequences-max=3"));
  for (const ChildSpec& each : children) EXPECT_TRUE(has(each, "--fabric.heartbeat-ms=50"));
  EXPECT_TRUE(has(child(children, "worker-1"), "--fabric.data.calls-max=2"));
  EXPECT_FALSE(has(child(children, "gateway"), "--fabric.data.calls-max=2"));
  EXPECT_TRUE(has(child(children, "gateway"), "--fleet.report-ms=20"));
  EXPECT_FALSE(has(child(children, "scheduler"), "--fleet.report-ms=20"));
}

TEST(LocalFleetTest, SettingsOfNobodyAreRefused) {
  for (const char* good : {"registry.a=1", "expert-worker.slots=", "fabric.data.x=y=z"}) {
    EXPECT_EQ(setting_problem(good), "");
  }
  for (const char* bad : {"", "router", "router=1", "router.threads", "=router.a", "log.level=info",
                          "worker.slots=1", "ro.uter.a=1", ".a=1"}) {
    EXPECT_THAT(setting_problem(bad), HasSubstr("SECTION.KEY=VALUE")) << bad;
  }
}

TEST(LocalFleetTest, EncryptionIsThatOfBothEndsOfACall) {
  LocalFleet fleet = fleet_of(1, 1);
  fleet.data_encryption = "none";
  const auto children = processes_of(fleet, machine_with({0}));
  EXPECT_EQ(value(child(children, "worker-1"), "--fabric.data.encryption"), "none");
  EXPECT_EQ(value(child(children, "router-1"), "--fabric.data.encryption"), "none");
  EXPECT_EQ(value(child(children, "gateway"), "--fabric.data.encryption"), "-");
}

}  // namespace
}  // namespace conclave::cli
