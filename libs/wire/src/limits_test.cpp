// Every bound of limits.hpp from both sides: the encoder refuses one more than it, and the decoder
// refuses it before it allocates anything for it.
#include "conclave/wire/limits.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "conclave/wire/message.hpp"
#include "testing_allocations.hpp"
#include "testing_build.hpp"

namespace conclave::wire {
namespace {

using base::ErrorCode;
using testing_build::build;
using testing_build::build_from;

// More than what any test here decodes before the refusal, less than what it refuses.
constexpr std::size_t kLargeAllocation = 64 << 10;

struct Case {
  std::string name;
  Message over;        // one beyond the limit
  std::uint16_t type;  // of `bytes`
  std::function<Bytes()> bytes;
};

constexpr capnp::uint one_over(std::size_t limit) { return static_cast<capnp::uint>(limit + 1); }
std::string long_text(std::size_t limit) { return std::string(limit + 1, 'a'); }

// Words that a message of so many bytes and a little more takes.
constexpr capnp::uint words_of(std::size_t bytes) {
  return static_cast<capnp::uint>(bytes / 8 + 4096);
}

template <class T>
Case text_case(std::string name, T over, std::size_t limit,
               std::function<void(typename codec::SchemaOf<T>::type::Builder, const char*)> set) {
  const auto bytes = [limit, set = std::move(set)] {
    const std::string value = long_text(limit);
    return build_from<T>(
        T{}, [&](auto to) { set(to, value.c_str()); }, words_of(limit));
  };
  return {std::move(name), std::move(over), kTypeOf<T>, bytes};
}

template <class T>
Case list_case(std::string name, T over, std::size_t limit, std::size_t element_bytes,
               std::function<void(typename codec::SchemaOf<T>::type::Builder, capnp::uint)> set) {
  const auto bytes = [limit, element_bytes, set = std::move(set)] {
    return build_from<T>(
        T{}, [&](auto to) { set(to, one_over(limit)); }, words_of((limit + 1) * element_bytes));
  };
  return {std::move(name), std::move(over), kTypeOf<T>, bytes};
}

ReportReply with_table(RoutingTable table) {
  ReportReply reply;
  reply.tables.push_back(std::move(table));
  return reply;
}

std::vector<Case> link_cases() {
  return {
      text_case<Hello>("Hello.node", {.node = long_text(kNameBytesMax)}, kNameBytesMax,
                       [](auto to, auto value) { to.setNode(value); }),
  };
}

std::vector<Case> generate_cases() {
  std::vector<Case> cases;
  Generate over;
  over.gateway = long_text(kNameBytesMax);
  cases.push_back(text_case<Generate>("Generate.gateway", over, kNameBytesMax,
                                      [](auto to, auto value) { to.setGateway(value); }));
  over = {};
  over.request_id = long_text(kRequestIdBytesMax);
  cases.push_back(text_case<Generate>("Generate.request_id", over, kRequestIdBytesMax,
                                      [](auto to, auto value) { to.setRequestId(value); }));
  over = {};
  over.model = long_text(kReferenceBytesMax);
  cases.push_back(text_case<Generate>("Generate.model", over, kReferenceBytesMax,
                                      [](auto to, auto value) { to.setModel(value); }));
  over = {};
  over.text = long_text(kPromptBytesMax);
  cases.push_back(text_case<Generate>("Generate.text", over, kPromptBytesMax,
                                      [](auto to, auto value) { to.setText(value); }));
  over = {};
  over.tokens.resize(kPromptTokensMax + 1);
  cases.push_back(list_case<Generate>("Generate.tokens", over, kPromptTokensMax, 4,
                                      [](auto to, auto size) { to.initTokens(size); }));
  over = {};
  over.resume.resize(kChoicesMax + 1);
  cases.push_back(list_case<Generate>("Generate.resume", over, kChoicesMax, 16,
                                      [](auto to, auto size) { to.initResume(size); }));
  over = {};
  over.resume.resize(2);  // together
  over.resume[0].tokens.resize(kPromptTokensMax / 2);
  over.resume[1].tokens.resize(kPromptTokensMax / 2 + 1);
  cases.push_back(
      list_case<Generate>("Generate.resume tokens", over, kPromptTokensMax, 4,
                          [](auto to, auto size) { to.initResume(1)[0].initTokens(size); }));
  over = {};
  over.stop.resize(kStopsMax + 1);
  cases.push_back(list_case<Generate>("Generate.stop", over, kStopsMax, 8,
                                      [](auto to, auto size) { to.initStop(size); }));
  over = {};
  over.stop = {long_text(kStopBytesMax)};
  cases.push_back(text_case<Generate>("Generate.stop text", over, kStopBytesMax,
                                      [](auto to, auto value) { to.initStop(1).set(0, value); }));
  over = {};
  over.stop_tokens.resize(kStopsMax + 1);
  cases.push_back(list_case<Generate>("Generate.stop_tokens", over, kStopsMax, 4,
                                      [](auto to, auto size) { to.initStopTokens(size); }));
  over = {};
  over.sampling.logit_bias.resize(kLogitBiasMax + 1);
  cases.push_back(
      list_case<Generate>("Sampling.logit_bias", over, kLogitBiasMax, 8,
                          [](auto to, auto size) { to.getSampling().initLogitBias(size); }));
  return cases;
}

TokenEvents with_event(TokenEvent event) {
  return {.streams = {{.stream = 1, .prompt = {}, .tokens = {std::move(event)}}}};
}

schema::TokenEvent::Builder init_event(schema::TokenEvents::Builder to) {
  return to.initStreams(1)[0].initTokens(1)[0];
}

std::vector<Case> event_cases() {
  std::vector<Case> cases;
  TokenEvent over;
  over.piece = long_text(kPieceBytesMax);
  cases.push_back(text_case<TokenEvents>(
      "TokenEvent.piece", with_event(over), kPieceBytesMax, [](auto to, const char* value) {
        init_event(to).setPiece(capnp::Text::Reader(value).asBytes());
      }));
  over = {};
  over.text = long_text(kPieceBytesMax);
  cases.push_back(
      text_case<TokenEvents>("TokenEvent.text", with_event(over), kPieceBytesMax,
                             [](auto to, auto value) { init_event(to).setText(value); }));
  over = {};
  over.top.resize(kTopLogprobsMax + 1);
  cases.push_back(list_case<TokenEvents>("TokenEvent.top", with_event(over), kTopLogprobsMax, 16,
                                         [](auto to, auto size) { init_event(to).initTop(size); }));
  over = {};
  over.top = {{.token = 1, .logprob = 0.0f, .piece = long_text(kPieceBytesMax)}};
  cases.push_back(text_case<TokenEvents>(
      "TokenChoice.piece", with_event(over), kPieceBytesMax, [](auto to, const char* value) {
        init_event(to).initTop(1)[0].setPiece(capnp::Text::Reader(value).asBytes());
      }));
  return cases;
}

std::vector<Case> tokenizer_cases() {
  return {
      text_case<CancelStream>("CancelStream.gateway", {.gateway = long_text(kNameBytesMax)},
                              kNameBytesMax, [](auto to, auto value) { to.setGateway(value); }),
      text_case<TokenizeRequest>(
          "TokenizeRequest.model", {.model = long_text(kReferenceBytesMax), .text = ""},
          kReferenceBytesMax, [](auto to, auto value) { to.setModel(value); }),
      text_case<TokenizeRequest>("TokenizeRequest.text",
                                 {.model = "", .text = long_text(kPromptBytesMax)}, kPromptBytesMax,
                                 [](auto to, auto value) { to.setText(value); }),
      list_case<TokenizeReply>(
          "TokenizeReply.tokens",
          {.tokens = std::vector<std::int32_t>(kPromptTokensMax + 1), .pieces = {}},
          kPromptTokensMax, 4, [](auto to, auto size) { to.initTokens(size); }),
      list_case<TokenizeReply>(
          "TokenizeReply.pieces",
          {.tokens = {}, .pieces = std::vector<std::string>(kPromptTokensMax + 1)},
          kPromptTokensMax, 8, [](auto to, auto size) { to.initPieces(size); }),
      text_case<TokenizeReply>("TokenizeReply.pieces bytes",
                               {.tokens = {}, .pieces = {long_text(kPieceBytesMax)}},
                               kPieceBytesMax,
                               [](auto to, const char* value) {
                                 to.initPieces(1).set(0, capnp::Text::Reader(value).asBytes());
                               }),
      text_case<DetokenizeRequest>(
          "DetokenizeRequest.model", {.model = long_text(kReferenceBytesMax), .tokens = {}},
          kReferenceBytesMax, [](auto to, auto value) { to.setModel(value); }),
      list_case<DetokenizeRequest>(
          "DetokenizeRequest.tokens",
          {.model = "", .tokens = std::vector<std::int32_t>(kPromptTokensMax + 1)},
          kPromptTokensMax, 4, [](auto to, auto size) { to.initTokens(size); }),
      text_case<DetokenizeReply>("DetokenizeReply.text", {.text = long_text(kPromptBytesMax)},
                                 kPromptBytesMax, [](auto to, auto value) { to.setText(value); }),
  };
}

std::vector<Case> report_cases() {
  std::vector<Case> cases;
  const auto add = [&](std::string name, auto field, std::size_t limit, auto set) {
    NodeReport over;
    over.*field = long_text(limit);
    cases.push_back(text_case<NodeReport>("NodeReport." + name, over, limit, set));
  };
  add("node", &NodeReport::node, kNameBytesMax, [](auto to, auto value) { to.setNode(value); });
  add("address", &NodeReport::address, kUriBytesMax,
      [](auto to, auto value) { to.setAddress(value); });
  add("admin_address", &NodeReport::admin_address, kUriBytesMax,
      [](auto to, auto value) { to.setAdminAddress(value); });
  add("device", &NodeReport::device, kNameBytesMax,
      [](auto to, auto value) { to.setDevice(value); });
  NodeReport over;
  HostedModel& hosted = over.models.emplace_back();
  hosted.model.version = 1;
  hosted.model.name = long_text(kNameBytesMax);
  cases.push_back(
      text_case<NodeReport>("ModelVersion.name", over, kNameBytesMax,
                            [](auto to, auto value) { to.initModel().setName(value); }));
  hosted.model.name.clear();
  hosted.model.uri = long_text(kUriBytesMax);
  cases.push_back(text_case<NodeReport>("ModelVersion.uri", over, kUriBytesMax,
                                        [](auto to, auto value) { to.initModel().setUri(value); }));
  hosted.model.uri.clear();
  hosted.model.sha256 = long_text(64);
  cases.push_back(text_case<NodeReport>("ModelVersion.sha256", over, 64, [](auto to, auto value) {
    to.initModel().setSha256(value);
  }));
  hosted.model.sha256.clear();
  hosted.ready = ExpertBits(kLayersMax + 1, 1);
  cases.push_back({"ExpertBits.layers", over, kTypeOf<NodeReport>, [] {
                     return build_from(NodeReport{}, [](auto to) {
                       to.getReady().setLayers(one_over(kLayersMax));
                       to.getReady().setExperts(1);
                     });
                   }});
  hosted.ready = ExpertBits(1, kExpertsMax + 1);
  cases.push_back({"ExpertBits.experts", over, kTypeOf<NodeReport>, [] {
                     return build_from(NodeReport{}, [](auto to) {
                       to.getReady().setLayers(1);
                       to.getReady().setExperts(one_over(kExpertsMax));
                     });
                   }});
  hosted.ready = ExpertBits(kLayersMax, kAllExpertsMax / kLayersMax + 1);
  cases.push_back({"ExpertBits of all layers", over, kTypeOf<NodeReport>, [] {
                     return build_from(NodeReport{}, [](auto to) {
                       to.getReady().setLayers(kLayersMax);
                       to.getReady().setExperts(one_over(kAllExpertsMax / kLayersMax));
                     });
                   }});
  over = {};
  over.models.resize(kVersionsMax + 1, {.model = {.version = 1}});
  cases.push_back(
      list_case<NodeReport>("NodeReport.models", over, kVersionsMax, 40, [](auto to, auto size) {
        to.initModel().setVersion(1);
        to.initFurther(size);
      }));
  over = {};
  over.refused.resize(kRefusedMax + 1);
  cases.push_back(list_case<NodeReport>("NodeReport.refused", over, kRefusedMax, 24,
                                        [](auto to, auto size) { to.initRefused(size); }));
  over = {};
  over.lost.resize(kNodesMax + 1);
  cases.push_back(list_case<NodeReport>("NodeReport.lost", over, kNodesMax, 8,
                                        [](auto to, auto size) { to.initLost(size); }));
  over = {};
  over.zone = long_text(kNameBytesMax);
  cases.push_back(text_case<NodeReport>("NodeReport.zone", over, kNameBytesMax,
                                        [](auto to, auto value) { to.setZone(value); }));
  return cases;
}

std::vector<Case> placement_cases() {
  std::vector<Case> cases;
  ReportReply over;
  over.assignments.emplace_back().experts.resize(kAllExpertsMax + 1);
  cases.push_back(
      list_case<ReportReply>("Assignment.experts", over, kAllExpertsMax, 16,
                             [](auto to, auto size) { to.initAssignment().initExperts(size); }));
  RoutingTable table;
  table.workers.resize(kNodesMax + 1);
  cases.push_back(
      list_case<ReportReply>("RoutingTable.workers", with_table(table), kNodesMax, 24,
                             [](auto to, auto size) { to.initTable().initWorkers(size); }));
  table.workers = {{.node = long_text(kNameBytesMax), .incarnation = 0, .address = ""}};
  cases.push_back(text_case<ReportReply>(
      "WorkerEndpoint.node", with_table(table), kNameBytesMax,
      [](auto to, auto value) { to.initTable().initWorkers(1)[0].setNode(value); }));
  table.workers = {{.node = "", .incarnation = 0, .address = long_text(kUriBytesMax)}};
  cases.push_back(text_case<ReportReply>(
      "WorkerEndpoint.address", with_table(table), kUriBytesMax,
      [](auto to, auto value) { to.initTable().initWorkers(1)[0].setAddress(value); }));
  table = {.epoch = 1,
           .model = {},
           .layers = kLayersMax + 1,
           .experts = 1,
           .workers = {},
           .first = {},
           .pool = {}};
  cases.push_back({"RoutingTable.layers", with_table(table), kTypeOf<ReportReply>, [] {
                     return build_from(ReportReply{}, [](auto to) {
                       to.initTable().setLayers(one_over(kLayersMax));
                       to.getTable().setExperts(1);
                     });
                   }});
  table.layers = 1;
  table.experts = 1;
  table.workers = {{}};
  table.first = {0, kPoolEntriesMax + 1};
  table.pool.resize(kPoolEntriesMax + 1);
  cases.push_back(
      list_case<ReportReply>("RoutingTable.pool", with_table(table), kPoolEntriesMax, 2,
                             [](auto to, auto size) { to.initTable().initPool(size); }));
  cases.push_back(list_case<ReportReply>(
      "RoutingTable.first",
      with_table({.epoch = 0,
                  .model = {},
                  .layers = 1,
                  .experts = 1,
                  .workers = {},
                  .first = std::vector<std::uint32_t>(kAllExpertsMax + 2),
                  .pool = {}}),
      kAllExpertsMax + 1, 4, [](auto to, auto size) { to.initTable().initFirst(size); }));
  Fleet fleet;
  fleet.nodes.resize(kNodesMax + 1);
  cases.push_back(list_case<Fleet>("Fleet.nodes", fleet, kNodesMax, 16,
                                   [](auto to, auto size) { to.initNodes(size); }));
  fleet = {};
  fleet.models.resize(kVersionsMax + 1, {.model = {.version = 1}});
  cases.push_back(list_case<Fleet>("Fleet.models", fleet, kVersionsMax, 32,
                                   [](auto to, auto size) { to.initModels(size); }));
  over = {};
  over.assignments.resize(kVersionsMax + 1);
  cases.push_back(list_case<ReportReply>("ReportReply.assignments", over, kVersionsMax, 24,
                                         [](auto to, auto size) {
                                           to.initAssignment();
                                           to.initAssignments(size);
                                         }));
  over = {};
  over.tables.resize(kVersionsMax + 1);
  cases.push_back(
      list_case<ReportReply>("ReportReply.tables", over, kVersionsMax, 40, [](auto to, auto size) {
        to.initTable();
        to.initTables(size);
      }));
  over = {};
  over.leader = long_text(kUriBytesMax);
  cases.push_back(text_case<ReportReply>("ReportReply.leader", over, kUriBytesMax,
                                         [](auto to, auto value) { to.setLeader(value); }));
  return cases;
}

std::vector<Case> registry_cases() {
  const auto aliases = [](std::size_t count) { return std::vector<std::string>(count); };
  std::vector<Case> cases = {
      text_case<RegisterModel>("RegisterModel.name",
                               {.name = long_text(kNameBytesMax), .uri = "", .aliases = {}},
                               kNameBytesMax, [](auto to, auto value) { to.setName(value); }),
      text_case<RegisterModel>("RegisterModel.uri",
                               {.name = "", .uri = long_text(kUriBytesMax), .aliases = {}},
                               kUriBytesMax, [](auto to, auto value) { to.setUri(value); }),
      list_case<RegisterModel>("RegisterModel.aliases",
                               {.name = "", .uri = "", .aliases = aliases(kListMax + 1)}, kListMax,
                               8, [](auto to, auto size) { to.initAliases(size); }),
      text_case<RegisterModel>("RegisterModel.aliases text",
                               {.name = "", .uri = "", .aliases = {long_text(kNameBytesMax)}},
                               kNameBytesMax,
                               [](auto to, auto value) { to.initAliases(1).set(0, value); }),
      text_case<ResolveModel>("ResolveModel.reference",
                              {.reference = long_text(kReferenceBytesMax)}, kReferenceBytesMax,
                              [](auto to, auto value) { to.setReference(value); }),
      text_case<ListModels>("ListModels.after", {.after = long_text(kReferenceBytesMax)},
                            kReferenceBytesMax, [](auto to, auto value) { to.setAfter(value); }),
      list_case<ModelList>("ModelList.models", {.models = std::vector<ModelRecord>(kListMax + 1)},
                           kListMax, 14 * 8, [](auto to, auto size) { to.initModels(size); }),
      text_case<SetAlias>("SetAlias.name", {.name = long_text(kNameBytesMax), .alias = ""},
                          kNameBytesMax, [](auto to, auto value) { to.setName(value); }),
      text_case<SetAlias>("SetAlias.alias", {.name = "", .alias = long_text(kNameBytesMax)},
                          kNameBytesMax, [](auto to, auto value) { to.setAlias(value); }),
      text_case<DigestsRequest>("DigestsRequest.name", {.name = long_text(kNameBytesMax)},
                                kNameBytesMax, [](auto to, auto value) { to.setName(value); }),
  };
  ModelRecord over;
  over.architecture = long_text(kNameBytesMax);
  cases.push_back(text_case<ModelRecord>("ModelRecord.architecture", over, kNameBytesMax,
                                         [](auto to, auto value) { to.setArchitecture(value); }));
  over = {};
  over.block_types = long_text(kNameBytesMax);
  cases.push_back(text_case<ModelRecord>("ModelRecord.block_types", over, kNameBytesMax,
                                         [](auto to, auto value) { to.setBlockTypes(value); }));
  over = {};
  over.aliases = aliases(kListMax + 1);
  cases.push_back(list_case<ModelRecord>("ModelRecord.aliases", over, kListMax, 8,
                                         [](auto to, auto size) { to.initAliases(size); }));
  over = {};
  over.aliases = {long_text(kNameBytesMax)};
  cases.push_back(
      text_case<ModelRecord>("ModelRecord.aliases text", over, kNameBytesMax,
                             [](auto to, auto value) { to.initAliases(1).set(0, value); }));
  ModelDigests digests;
  digests.layers = kLayersMax;
  digests.experts = kExpertsMax;
  cases.push_back({"ModelDigests of all layers", digests, kTypeOf<ModelDigests>, [] {
                     return build_from(ModelDigests{}, [](auto to) {
                       to.setLayers(kLayersMax);
                       to.setExperts(kExpertsMax);
                     });
                   }});
  return cases;
}

void expect_refused(const std::vector<Case>& cases) {
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);

    const auto encoded = try_encode(test.over);

    ASSERT_FALSE(encoded);
    EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);

    const Bytes bytes = test.bytes();
    testing_allocations::reset_largest();
    const auto decoded = decode(test.type, bytes);
    const std::size_t largest = testing_allocations::largest();

    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorruptData);
    EXPECT_THAT(decoded.error().message, testing::HasSubstr("at most"));
    EXPECT_LT(largest, kLargeAllocation);
  }
}

std::vector<Case> ledger_cases() {
  AdminRequest admin;
  admin.path = long_text(kAdminTargetBytesMax);
  std::vector<Case> cases = {
      text_case<AdminRequest>("AdminRequest.path", admin, kAdminTargetBytesMax,
                              [](auto to, auto value) { to.setPath(value); }),
      text_case<UsageBatch>("UsageBatch.id", {.id = long_text(kNameBytesMax), .rows = {}},
                            kNameBytesMax, [](auto to, auto value) { to.setId(value); }),
      list_case<UsageBatch>("UsageBatch.rows",
                            {.id = "", .rows = std::vector<UsageRow>(kUsageRowsMax + 1)},
                            kUsageRowsMax, 9 * 8, [](auto to, auto size) { to.initRows(size); }),
      text_case<LeaseRequest>("LeaseRequest.holder",
                              {.name = "", .holder = long_text(kNameBytesMax)}, kNameBytesMax,
                              [](auto to, auto value) { to.setHolder(value); }),
      text_case<AuditEvent>(
          "AuditEvent.details",
          {.action = "", .subject = "", .details = long_text(kAdminTargetBytesMax)},
          kAdminTargetBytesMax, [](auto to, auto value) { to.setDetails(value); }),
  };
  KeyAnswer answer;
  answer.models.resize(kKeyModelsMax + 1);
  cases.push_back(list_case<KeyAnswer>("KeyAnswer.models", answer, kKeyModelsMax, 8,
                                       [](auto to, auto size) { to.initModels(size); }));
  StateRequest put;
  put.put = std::string(kStateBytesMax + 1, 'x');
  cases.push_back(list_case<StateRequest>("StateRequest.put", put, kStateBytesMax, 1,
                                          [](auto to, auto size) { to.getPut().initData(size); }));
  cases.push_back(list_case<StateReply>(
      "StateReply.data", {.revision = 0, .data = std::string(kStateBytesMax + 1, 'x')},
      kStateBytesMax, 1, [](auto to, auto size) { to.initData(size); }));
  return cases;
}

std::vector<Case> deployment_cases() {
  std::vector<Case> cases;
  DeploymentList list;
  list.deployments.resize(kDeploymentsMax + 1);
  cases.push_back(list_case<DeploymentList>("DeploymentList.deployments", list, kDeploymentsMax, 64,
                                            [](auto to, auto size) { to.initDeployments(size); }));
  list.deployments.resize(1);
  list.deployments[0].splits.resize(kSplitsMax + 1);
  cases.push_back(list_case<DeploymentList>(
      "Deployment.splits", list, kSplitsMax, 24,
      [](auto to, auto size) { to.initDeployments(1)[0].initSplits(size); }));
  list.deployments[0] = {};
  list.deployments[0].pins.resize(kPinsMax + 1);
  cases.push_back(list_case<DeploymentList>(
      "Deployment.pins", list, kPinsMax, 24,
      [](auto to, auto size) { to.initDeployments(1)[0].initPins(size); }));
  list.deployments[0] = {};
  list.deployments[0].name = long_text(kNameBytesMax);
  cases.push_back(text_case<DeploymentList>(
      "Deployment.name", list, kNameBytesMax,
      [](auto to, auto value) { to.initDeployments(1)[0].setName(value); }));
  return cases;
}

TEST(LimitsTest, HoldForLinks) { expect_refused(link_cases()); }
TEST(LimitsTest, HoldForPrompts) { expect_refused(generate_cases()); }
TEST(LimitsTest, HoldForEvents) { expect_refused(event_cases()); }
TEST(LimitsTest, HoldForTokenizing) { expect_refused(tokenizer_cases()); }
TEST(LimitsTest, HoldForReports) { expect_refused(report_cases()); }
TEST(LimitsTest, HoldForPlacements) { expect_refused(placement_cases()); }
TEST(LimitsTest, HoldForTheLedger) { expect_refused(ledger_cases()); }
TEST(LimitsTest, HoldForDeployments) { expect_refused(deployment_cases()); }
TEST(LimitsTest, HoldForTheRegistry) { expect_refused(registry_cases()); }

TEST(LimitsTest, HoldForEnvelopes) {
  const Bytes bytes = testing_build::build_from(
      Envelope{}, [](auto to) { to.setTarget(long_text(kNameBytesMax).c_str()); });
  const auto decoded = decode_envelope(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorruptData);
  EXPECT_THAT(decoded.error().message, testing::HasSubstr("at most 256"));
}

TEST(LimitsTest, HoldForWhatPeopleRead) {
  // The encoder cuts these, so only forged ones are too long.
  const Bytes error = build<ErrorBody>([](auto to) {
    to.initError().setCode(schema::ErrorCode::INTERNAL);
    to.getError().setMessage(long_text(kErrorBytesMax).c_str());
  });
  const Bytes report =
      build_from(NodeReport{}, [](auto to) { to.setReason(long_text(kErrorBytesMax).c_str()); });
  const Bytes fleet =
      build_from(Fleet{}, [](auto to) { to.setReason(long_text(kErrorBytesMax).c_str()); });
  for (const auto& decoded : {decode(kTypeOf<ErrorBody>, error),
                              decode(kTypeOf<NodeReport>, report), decode(kTypeOf<Fleet>, fleet)}) {
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorruptData);
  }
}

TEST(LimitsTest, AreReachedByMessages) {
  Generate most;
  most.gateway = std::string(kNameBytesMax, 'g');
  most.request_id = std::string(kRequestIdBytesMax, 'r');
  most.model = std::string(kReferenceBytesMax, 'm');
  most.text = std::string(kPromptBytesMax, 't');
  most.tokens.resize(kPromptTokensMax, 1);
  most.stop.resize(kStopsMax, std::string(kStopBytesMax, 's'));
  most.stop_tokens.resize(kStopsMax, 2);
  most.sampling.logit_bias.resize(kLogitBiasMax);
  const auto decoded = decode(kTypeOf<Generate>, encode(most));
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_TRUE(*decoded == Message(most));

  ModelDigests digests;
  digests.layers = kLayersMax;
  digests.experts = kAllExpertsMax / kLayersMax;
  digests.expert.resize(kAllExpertsMax);
  ASSERT_TRUE(decode(kTypeOf<ModelDigests>, encode(digests)));

  Envelope envelope;
  envelope.target = std::string(kNameBytesMax, 't');
  envelope.trace.trace_id[0] = 1;
  ASSERT_TRUE(decode_envelope(encode(envelope)));
}

TEST(LimitsTest, HoldForMessagesAsAWhole) {
  // Within every other limit.
  TokenizeReply reply;
  reply.pieces.resize(kMessageBytesMax / kPieceBytesMax, std::string(kPieceBytesMax, 'p'));
  const auto encoded = try_encode(reply);
  ASSERT_FALSE(encoded);
  EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);

  const Bytes bytes(kMessageBytesMax + 8);
  testing_allocations::reset_largest();
  const auto decoded = decode(kTypeOf<Nudge>, bytes);
  EXPECT_LT(testing_allocations::largest(), kLargeAllocation);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorruptData);
}

TEST(LimitsTest, CountEventsOfAllStreams) {
  TokenEvents events;
  events.streams.resize(2);
  events.streams[0].prompt.resize(kTokensPerMessageMax / 2);
  events.streams[1].tokens.resize(kTokensPerMessageMax / 2);
  EXPECT_TRUE(decode(kTypeOf<TokenEvents>, encode(events)));

  events.streams[1].tokens.emplace_back();
  const auto encoded = try_encode(events);
  ASSERT_FALSE(encoded);
  EXPECT_THAT(encoded.error().message, testing::HasSubstr("events"));

  const Bytes bytes = build<TokenEvents>(
      [](auto to) {
        auto streams = to.initStreams(2);
        streams[0].initPrompt(kTokensPerMessageMax / 2);
        streams[1].initTokens(kTokensPerMessageMax / 2 + 1);
      },
      1 << 20);
  const auto decoded = decode(kTypeOf<TokenEvents>, bytes);
  ASSERT_FALSE(decoded);
  EXPECT_THAT(decoded.error().message, testing::HasSubstr("events"));
}

}  // namespace
}  // namespace conclave::wire
