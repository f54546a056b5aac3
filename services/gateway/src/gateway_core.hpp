// Every open request of the gateway: which router computes which of its streams, what its client
// has been sent, and when it has had its time. Makes all decisions about them; has no actor, socket
// or clock of its own.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "admission.hpp"
#include "answer.hpp"
#include "api_call.hpp"
#include "conclave/quota/grant.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/trace.hpp"
#include "gateway_status.hpp"
#include "prefix_index.hpp"
#include "router_directory.hpp"
#include "router_port.hpp"
#include "serving_book.hpp"
#include "shadow_book.hpp"
#include "token_log.hpp"

namespace conclave::gateway {

/// A client's request within this process.
enum class RequestId : std::uint64_t {};

/// A request as the front hands it over, with its place in the gateway.
struct Submission {
  RequestId id{};
  ApiCall call;
  GenerationRequest request;
  wire::TraceContext trace;
  std::string answer_id;            // chatcmpl-..
  std::optional<wire::Sha256> key;  // the sum of the API key that it showed, if it did
  Admission::Ticket ticket;
  std::optional<quota::Grant> grant;  // none: its tenant has no limits
};

struct CoreOptions {
  std::string gateway;  // this node's name, which routers answer to
  /// The longest life of a request: what is not answered by then never will be.
  std::chrono::milliseconds request_timeout{600'000};
  std::function<std::int64_t()> unix_time;  // for `created`
  std::function<std::uint64_t()> random;    // which part of a deployment answers; null: the first
  /// How long a stream that lost its router may be without one: to start a router again, and load.
  std::chrono::milliseconds resume_timeout{30'000};
  /// How long a new request waits for a router where there was one so long ago at most: links come
  /// anew and routers are replaced within it. Where there is none for good, clients hear at once.
  std::chrono::milliseconds hold_timeout{5'000};
  std::size_t prefix_blocks_max = 65'536;  // of PrefixIndex
  /// A request ended that had been given to a router; may be null.
  std::function<void(const std::optional<wire::Sha256>& key, const std::string& model,
                     const Usage& usage)>
      used;
  telemetry::Tracer tracer;
};

/// One thread at a time. How many requests are open is bounded by those who hand out tickets.
class GatewayCore {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  /// What is borrowed must outlive it.
  GatewayCore(CoreOptions options, RouterPort& port, GatewayMetrics& metrics, GatewayStatus& status,
              telemetry::Logger log);
  ~GatewayCore();
  GatewayCore(const GatewayCore&) = delete;
  GatewayCore& operator=(const GatewayCore&) = delete;

  /// Sends every prompt to a router; or answers with the reason why not, and returns false.
  bool submit(Submission submission, TimePoint now);
  /// The client does not want its answer any more. Unknown requests are passed over.
  void client_gone(RequestId request, TimePoint now);
  /// To be called some times a second: ends what has had its time, gives streams that wait for a
  /// router to one, and takes them from routers that drain.
  void tick(TimePoint now);

  /// What routers say. Streams that are not open (any more) are passed over.
  void accepted(std::uint64_t stream, const wire::Accepted& accepted);
  void refused(std::uint64_t stream, const base::Error& error, TimePoint now);
  void events(wire::TokenEvents& events, TimePoint now);

  /// What the scheduler and the links say.
  void fleet(const wire::Fleet& fleet);
  /// What the registry says.
  void deployments(wire::DeploymentList list);
  /// Of the deployments that are known; 0: none.
  [[nodiscard]] std::uint64_t deployments_revision() const { return serving_.revision(); }
  void link_changed(RouterId router, bool up, TimePoint now);

  /// A router for a request that is no stream. `model` empty: the fleet's first; it becomes what
  /// routers know.
  Parsed<RouterId> route(std::string& model);

  [[nodiscard]] std::size_t open_requests() const { return requests_.size(); }

 private:
  // A stream that its router could not finish, or for which there was none, until another one has
  // given a token.
  struct Loss {
    TimePoint since;
    ApiError error;     // the client's, if nobody goes on
    bool held = false;  // it has not begun: nothing was lost
  };
  // One prompt of a request.
  struct Stream {
    std::uint64_t id = 0;  // as routers know it; a new one for every router; 0: no router has it
    RouterId router{};
    std::size_t sequences = 0;    // that it opened there
    std::vector<RouterId> tried;  // since it was lost, or since it came
    bool accepted = false;        // by its first router: what may be refused was not
    std::size_t unfinished = 0;   // choices
    wire::Generate generate;      // as any router gets it, but for the log
    TokenLog log;
    std::optional<Loss> loss;
    std::uint32_t losses = 0;  // since its last token
  };
  struct Open {
    ApiCall call;
    Admission::Ticket ticket;
    std::optional<quota::Grant> grant;
    AnswerFormat format;
    Answer answer;
    ModelMetrics& metrics;
    std::vector<Stream> streams;         // one for each prompt
    std::vector<TimePoint> last_tokens;  // of each choice; the epoch: none yet
    std::string out;                     // events for the client, not written yet
    std::string model;                   // the name that was asked for
    std::optional<wire::Sha256> key;     // that it showed
    TimePoint deadline;
    std::uint64_t session = 0;                  // see Wanted
    bool streaming = false;                     // the head was sent
    bool running = false;                       // had a token
    telemetry::SpanContext span;                // of the request; empty: not traced
    std::array<std::uint8_t, 8> parent_span{};  // the client's
  };
  using Requests = std::map<RequestId, Open>;
  // Where a router's stream belongs.
  struct Place {
    RequestId request{};
    std::size_t prompt = 0;
  };

  [[nodiscard]] Parsed<ServingBook::Choice> served(std::string_view model, const Requester& who);
  Requests::iterator open(Submission submission, const ServingBook::Choice& choice);
  /// The same prompts, in the background, for a version whose answers nobody sees.
  void shadow(const Open& open, const wire::ModelVersion& version, TimePoint now);
  /// False: there is no router for it; nothing was changed.
  bool dispatch(RequestId id, Open& open, std::size_t prompt);
  [[nodiscard]] std::optional<RouterId> choose(const Open& open, const Stream& stream,
                                               std::span<const std::uint64_t> blocks);
  /// A router does not take a stream: another one may, now or later; or the request ends.
  void retry(Requests::iterator request, std::size_t prompt, const base::Error& error,
             TimePoint now);
  /// A router does not go on with a stream: another one does, now or later; or the request ends.
  void lose(Requests::iterator request, std::size_t prompt, const ApiError& error, TimePoint now);
  /// A new request's stream waits for a router; false: it would do so in vain.
  bool hold(Stream& stream, const ApiError& error, TimePoint now);
  void note_served(TimePoint now);
  void resume_waiting(TimePoint now);
  /// False: its time is over, and the request's with it.
  bool resume(Requests::iterator request, std::size_t prompt, TimePoint now);
  void leave_draining();
  void cancel_at_router(const Stream& stream);
  void take(Open& open, std::size_t prompt, wire::StreamEvents& events, TimePoint now);
  void measure(Open& open, std::size_t prompt, const wire::StreamEvents& events, TimePoint now);
  void deliver(Requests::iterator request, TimePoint now);
  void fail(Requests::iterator request, const ApiError& error, TimePoint now);
  /// Forgets the request; routers are told of what has not finished.
  void close(Requests::iterator request, bool answered, TimePoint now);
  void record(const Open& open, bool answered, const Usage& usage, TimePoint now) const;
  void release(Stream& stream);
  void publish_status();
  [[nodiscard]] ApiError no_router(const std::string& model) const;
  [[nodiscard]] std::uint64_t random() { return options_.random ? options_.random() : 0; }
  [[nodiscard]] static std::string_view prompt_field(const Open& open) {
    return open.format.chat ? "messages" : "prompt";
  }

  const CoreOptions options_;
  RouterPort& port_;
  GatewayMetrics& metrics_;
  GatewayStatus& status_;
  const telemetry::Logger log_;

  RouterDirectory routers_;
  PrefixIndex prefixes_;
  ServingBook serving_;
  ShadowBook shadows_;
  std::string fleet_reason_;
  std::map<std::string, TimePoint> served_at_;  // "name:version": a router could be chosen
  Requests requests_;
  std::unordered_map<std::uint64_t, Place> places_;
  std::uint64_t next_stream_ = 1;
};

}  // namespace conclave::gateway
