#include "testing_samples.hpp"

#include <cstdint>
#include <string>
#include <utility>

namespace conclave::wire::testing_samples {

namespace {

// Not valid UTF-8: the first two bytes of a character of three.
const std::string kHalfCharacter = "\xE2\x82";

Sha256 digest(std::uint8_t first) {
  Sha256 digest{};
  for (std::size_t i = 0; i < digest.size(); ++i) digest[i] = static_cast<std::uint8_t>(first + i);
  return digest;
}

TraceContext trace() {
  TraceContext trace;
  for (std::size_t i = 0; i < trace.trace_id.size(); ++i) {
    trace.trace_id[i] = static_cast<std::uint8_t>(0xA0 + i);
  }
  for (std::size_t i = 0; i < trace.span_id.size(); ++i) {
    trace.span_id[i] = static_cast<std::uint8_t>(0xB1 + i);
  }
  trace.flags = 1;
  return trace;
}

ModelVersion model() {
  return {.name = "qwen3-30b-a3b",
          .version = 7,
          .uri = "/models/qwen3.gguf",
          .sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
}

ModelVersion other_model() {
  return {.name = "olmoe", .version = 2, .uri = "/models/o.gguf", .sha256 = ""};
}

Generate generate() {
  return {.gateway = "gateway-1",
          .stream = 0x0102030405060708,
          .request_id = "req-ä",
          .model = "qwen3@production",
          .kind = PromptKind::kChat,
          .text = R"({"messages":[{"role":"user","content":"€?"}]})",
          .tokens = {1, -2, 2147483647},
          .choices = 3,
          .max_tokens = 99,
          .sampling = {.temperature = 0.5f,
                       .top_p = 0.25f,
                       .min_p = 0.125f,
                       .top_k = 40,
                       .seed = 0xFFFFFFFFFFFFFFFF,
                       .presence_penalty = -1.5f,
                       .frequency_penalty = 2.0f,
                       .repetition_penalty = 1.25f,
                       .min_tokens = 4,
                       .logit_bias = {{.token = 17, .bias = -100.0f}, {.token = 18, .bias = 3.0f}}},
          .stop = {"\n\n", "END"},
          .stop_tokens = {5, 6},
          .include_stop = true,
          .ignore_eos = true,
          .logprobs = true,
          .top_logprobs = 20,
          .echo = true,
          .trace = trace(),
          .priority = -3,
          .cache_salt = "tenant ß",
          .resume = {{.tokens = {7, 8}}, {.finished = true}, {.tokens = {9}}},
          .version = 4,
          .started_unix_s = 1'700'000'000};
}

TokenEvents token_events() {
  TokenEvent prompt;
  prompt.choice = 1;
  prompt.token = 11;
  prompt.logprob = -0.5f;
  prompt.piece = "Hi";
  prompt.text = "Hi";
  const TokenEvent last{.choice = 2,
                        .token = 12,
                        .logprob = -0.75f,
                        .piece = kHalfCharacter,
                        .text = "€",
                        .top = {{.token = 12, .logprob = -0.75f, .piece = kHalfCharacter},
                                {.token = 13, .logprob = -1.5f, .piece = " the"}},
                        .finish = FinishReason::kError,
                        .error = {base::ErrorCode::kUnavailable, "no replica left"},
                        .cached_tokens = 48,
                        .degraded = 3,
                        .pairs = 128,
                        .device_us = 640};
  return {.streams = {{.stream = 9, .prompt = {prompt}, .tokens = {last, TokenEvent{}}},
                      {.stream = 10, .prompt = {}, .tokens = {prompt}}}};
}

NodeReport node_report() {
  ExpertBits ready(3, 50);
  ready.set(0, 0);
  ready.set(1, 14);
  ready.set(2, 49);
  ExpertBits other(1, 4);
  other.set(0, 3);
  return {.node = "worker-1",
          .role = NodeRole::kExpertWorker,
          .incarnation = 1234567890123456789,
          .state = NodeState::kDraining,
          .reason = "leaving",
          .address = "tcp://10.0.0.1:7101",
          .admin_address = "10.0.0.1:9101",
          .device = "cpu:0-1",
          .memory_bytes = std::uint64_t{1} << 40,
          .memory_used_bytes = std::uint64_t{1} << 39,
          .slots = 128,
          .epoch_seen = 42,
          .models = {{.model = model(),
                      .state = NodeState::kStarting,
                      .reason = "opening",
                      .ready = ready,
                      .expert_pairs = {10, 20, 30}},
                     {.model = other_model(),
                      .state = NodeState::kDraining,
                      .reason = "3 sequences are left",
                      .ready = other,
                      .expert_pairs = {40}}},
          .load = {.pairs_total = 1,
                   .calls_total = 2,
                   .compute_us_total = 3,
                   .running = 4,
                   .waiting = 5,
                   .kv_tokens_used = 6,
                   .kv_tokens_max = 7,
                   .tokens_total = 8},
          .refused = {{.model = model(), .layer = 1, .index = 3, .reason = "wrong sum"}},
          .zone = "rack-7",
          .lost = {"worker-2", "worker-3"},
          .term = 7};
}

Assignment assignment() {
  return {.epoch = 43,
          .model = model(),
          .experts = {{.layer = 2, .index = 49, .sha256 = digest(1)}, {.layer = 1, .index = 3}}};
}

RoutingTable table() {
  return {.epoch = 44,
          .model = model(),
          .layers = 2,
          .experts = 2,
          .workers = {{.node = "worker-1", .incarnation = 5, .address = "tcp://10.0.0.1:7101"},
                      {.node = "worker-2", .incarnation = 6, .address = "ipc:///run/w2"}},
          .first = {0, 1, 3, 3, 4},
          .pool = {1, 0, 1, 0},
          .policy = DegradedPolicy::kNextBest,
          .backbone = digest(7),
          .leaving = true};
}

Fleet fleet() {
  return {.epoch = 45,
          .models = {{.model = model(),
                      .experts_total = 150,
                      .experts_ready = 149,
                      .complete = true,
                      .leaving = true,
                      .reason = "layer 1, expert 3 is lost",
                      .aliases = {"production"}},
                     {.model = other_model()}},
          .reason = "layer 1, expert 3 has no replica",
          .nodes = {{.report = node_report(), .silent_ms = 250, .assigned = 64}},
          .term = 11,
          .leader = "tcp://10.0.0.2:7600"};
}

Deployment deployment() {
  return {.name = "chat",
          .splits = {{.reference = "qwen3@production", .model = model(), .weight = 90},
                     {.reference = "olmoe:2", .model = other_model(), .weight = 10}},
          .sticky = Stickiness::kUser,
          .shadow = other_model(),
          .shadow_percent = 5,
          .pins = {{.worker_group = "gpu",
                    .first_layer = 1,
                    .last_layer = 2,
                    .first_expert = 3,
                    .last_expert = 4}},
          .replica_floor = 3,
          .policy = DegradedPolicy::kNextBest};
}

ModelRecord model_record() {
  return {.model = model(),
          .bytes = 32'000'000'000,
          .architecture = "qwen3moe",
          .block_types = "Q8_0, F32",
          .parameters = 30'500'000'000,
          .context_length = 40960,
          .layers = 48,
          .dense_layers = 1,
          .experts = 128,
          .experts_used = 8,
          .expert_bytes = 5'000'000,
          .backbone_bytes = 1'500'000'000,
          .aliases = {"production", "canary"},
          .created_unix_ms = 1'760'000'000'000};
}

Subject subject() { return {.tenant = "acme", .key_id = "key-1", .role = AccessRole::kAdmin}; }

template <std::size_t... I>
std::vector<Message> defaults(std::index_sequence<I...>) {
  return {Message(std::in_place_index<I + 1>)...};
}

}  // namespace

Envelope envelope() {
  return {.version = 1,
          .kind = FrameKind::kRequest,
          .type = kTypeOf<ExpertCall>,
          .request_id = 0x1112131415161718,
          .incarnation = 0x2122232425262728,
          .deadline_unix_ns = 1'760'000'000'123'456'789,
          .trace = trace(),
          .target = "inference",
          .payload_bytes = 4096};
}

std::vector<Message> messages() {
  return {
      Hello{.node = "router-1", .role = NodeRole::kRouter, .incarnation = 3},
      ErrorBody{{base::ErrorCode::kOverloaded, "queue is full"}},
      generate(),
      Accepted{.prompt_tokens = 17, .max_tokens = 99, .version = 4},
      token_events(),
      CancelStream{.gateway = "gateway-1", .stream = 9},
      TokenizeRequest{.model = "qwen3",
                      .kind = PromptKind::kChat,
                      .text = "{}",
                      .add_special = true,
                      .parse_special = true},
      TokenizeReply{.tokens = {1, 2}, .pieces = {"a", kHalfCharacter}, .context_length = 4096},
      DetokenizeRequest{.model = "qwen3", .tokens = {1, 2, 3}},
      DetokenizeReply{.text = "Grüße"},
      ExpertCall{.model_key = 0x0123456789abcdef,
                 .epoch = 44,
                 .layer = 5,
                 .rows = 6,
                 .pairs = 24,
                 .hidden = 2048,
                 .forms = RowForms::kBoth},
      ExpertReply{.ok = true,
                  .error = {base::ErrorCode::kFailedPrecondition, "expert 3 is not ready"},
                  .queue_us = 7,
                  .compute_us = 800,
                  .batch_pairs = 48},
      node_report(),
      ReportReply{.lease_ms = 3000,
                  .epoch = 45,
                  .assignments = {assignment(), {.epoch = 43, .model = other_model()}},
                  .tables = {table(), {.epoch = 44, .model = other_model()}},
                  .fleet = fleet(),
                  .term = 11,
                  .leader = "tcp://10.0.0.2:7600"},
      Nudge{.epoch = 46},
      FleetRequest{},
      fleet(),
      RegisterModel{.name = "qwen3", .uri = "/models/q.gguf", .aliases = {"canary"}},
      ResolveModel{.reference = "qwen3:7"},
      ListModels{.after = "qwen3:7", .limit = 50},
      ModelList{.models = {model_record(), ModelRecord{}}, .more = true},
      model_record(),
      SetAlias{.name = "qwen3", .alias = "production", .version = 7},
      DigestsRequest{.name = "qwen3", .version = 7},
      ModelDigests{.model = model(),
                   .layers = 2,
                   .experts = 1,
                   .backbone = digest(2),
                   .expert = {digest(3), Sha256{}}},
      AdminRequest{.method = "PUT",
                   .path = "/admin/v1/deployments/chat",
                   .query = "dry_run=true",
                   .body = R"({"split":[]})",
                   .if_match = "\"7\"",
                   .request_id = "req-1",
                   .subject = subject()},
      AdminReply{.status = 412,
                 .content_type = "application/json",
                 .body = "{}",
                 .etag = "\"8\"",
                 .location = "/admin/v1/operations/1",
                 .stale = true,
                 .retry_after_s = 5},
      KeyQuestion{.secret_sha256 = digest(4)},
      KeyAnswer{.valid = true,
                .reason = "expires soon",
                .subject = subject(),
                .models = {"qwen3", "chat"},
                .expires_unix_ms = 1'760'000'000'000,
                .stale = true,
                .quota = {.requests_per_minute = 60,
                          .tokens_per_minute = 10'000,
                          .tokens_per_day = 1'000'000,
                          .tokens_per_month = 20'000'000,
                          .concurrent_requests = 8,
                          .day = 20'000,
                          .day_tokens = 999,
                          .month_tokens = 12'345}},
      UsageBatch{.id = "gateway-1/5/1",
                 .rows = {{.tenant = "acme",
                           .key_id = "key-1",
                           .model = "qwen3",
                           .day = 20'000,
                           .requests = 1,
                           .prompt_tokens = 2,
                           .completion_tokens = 3,
                           .expert_pairs = 4,
                           .device_us = 5}}},
      Recorded{.fresh = true},
      LeaseRequest{.name = "scheduler", .holder = "scheduler-1/7", .ttl_ms = 5000},
      LeaseReply{.holder = "scheduler-2/8", .token = 9, .left_ms = 1500},
      AuditEvent{.action = "expert.refused", .subject = "qwen3:7", .details = "{}"},
      DeploymentsRequest{.revision = 17},
      DeploymentList{.revision = 18,
                     .unchanged = true,
                     .deployments = {deployment(), Deployment{}},
                     .stale = true},
      CatalogChanged{.revision = 19},
      StateRequest{.name = "scheduler", .token = 9, .put = kHalfCharacter, .revision = 20},
      StateReply{.revision = 21, .data = kHalfCharacter},
  };
}

std::vector<Message> empty_messages() {
  return defaults(std::make_index_sequence<kMessageTypes - 1>());
}

}  // namespace conclave::wire::testing_samples
