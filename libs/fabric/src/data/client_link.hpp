// A router's link to one worker of another process: connects, says hello, agrees on a road, and
// starts again whenever that ends. It knows nothing of calls but how their bytes travel.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>
#include <zmq.hpp>

#include "conclave/fabric/call_client.hpp"
#include "context_internal.hpp"
#include "data_metrics.hpp"
#include "data_protocol.hpp"
#include "event_poller.hpp"
#include "local_socket.hpp"
#include "shared_segment.hpp"
#include "zmq_frames.hpp"

namespace conclave::fabric {

/// What all links of a client have in common; owned by the client.
struct ClientShared {
  Context::Internal& context;
  std::string node_name;
  std::uint64_t incarnation = 0;
  DataSettings settings;
  EventPoller poller;
  DataMetrics metrics;
  telemetry::RepeatFilter repeats{std::chrono::minutes(1)};
};

/// A segment and which parts of it are calls. Calls hold it beyond the end of their link.
struct CallMemory {
  explicit CallMemory(SharedSegment mapped)
      : segment(std::move(mapped)), blocks(segment.bytes().size()) {}
  SharedSegment segment;
  BlockList blocks;
};

/// One thread. Bounded by what its calls are.
class ClientLink {
 public:
  using Time = std::chrono::steady_clock::time_point;
  /// Parts that a poller watches; their tokens are `first_token` and the two behind it.
  enum Part : std::uint64_t { kSocket, kMonitor, kLocal };

  /// Hears of this link; must not close it from within.
  class Listener {
   public:
    virtual void link_up(ClientLink& link) = 0;
    virtual void link_down(ClientLink& link, const base::Error& why) = 0;
    /// A reply to a call of this road, from the link's present peer. `payload` is its last frame:
    /// null if it has none, as on the shared road, where y lies in the segment.
    virtual void replied(ClientLink& link, const wire::Envelope& envelope,
                         std::span<const std::byte> body, zmq::message_t* payload, Road road) = 0;

   protected:
    ~Listener() = default;
  };

  ClientLink(ClientShared& shared, DataLinkId id, std::string address,
             EventPoller::Token first_token, Listener& listener);
  ~ClientLink();
  ClientLink(const ClientLink&) = delete;
  ClientLink& operator=(const ClientLink&) = delete;

  /// Begins; errors as CallClient::connect.
  base::Status open();

  [[nodiscard]] DataLinkId id() const { return id_; }
  [[nodiscard]] bool is_up() const { return state_ == State::kUp; }
  /// Of the link; single calls may take frames although it is shared.
  [[nodiscard]] Road road() const { return memory_ ? Road::kShared : Road::kFrames; }
  /// Null if the road is not shared.
  [[nodiscard]] const std::shared_ptr<CallMemory>& memory() const { return memory_; }

  /// Sends a call whose payload lies at `offset` of the segment. May find that the link is lost,
  /// and tell the listener at once.
  void send_shared(const wire::Envelope& envelope, const wire::ExpertCall& call,
                   std::uint64_t offset);
  /// Sends a call with its payload. The same.
  void send_framed(const wire::Envelope& envelope, const wire::ExpertCall& call, Buffer payload);

  /// The poller says that something happened to this part.
  void ready(Part part);
  /// When tick() is due without any event.
  [[nodiscard]] Time due() const { return unread_ ? Time::min() : due_; }
  void tick(Time now);

 private:
  enum class State : std::uint8_t {
    kWaiting,     // for the next attempt
    kConnecting,  // ZeroMQ does, as often as it takes
    kGreeting,    // hello is under way
    kOpening,     // the local road is offered
    kUp,
  };

  base::Status open_socket();
  void close_socket();
  void greet();
  void read_socket();
  void read_monitor();
  void read_local();
  void take(std::span<zmq::message_t> frames);
  void welcomed(std::span<const std::byte> body, std::span<const std::byte> payload);
  base::Status open_local(const LocalOffer& offer);
  void close_local();
  void use(const wire::Envelope& envelope, std::span<const std::byte> body, zmq::message_t* payload,
           Road road);
  void come_up();
  /// Ends this attempt; the next begins after a pause.
  void fail(base::Error why);
  void malformed(std::string_view what);

  ClientShared& shared_;
  const DataLinkId id_;
  const std::string address_;
  const EventPoller::Token first_token_;
  Listener& listener_;

  State state_ = State::kWaiting;
  Time opened_{};
  Time due_ = Time::max();
  std::uint64_t peer_incarnation_ = 0;
  std::string peer_name_;
  bool connected_ = false;  // ZeroMQ's handshake is done
  bool unread_ = false;     // look at the socket before waiting: a send may have taken its signal

  // A socket for every attempt: nothing left over of an earlier connection can be taken for the
  // present one's.
  zmq::socket_t socket_;
  SocketMonitor monitor_;
  LocalSocket local_;
  std::shared_ptr<CallMemory> memory_;

  std::vector<zmq::message_t> frames_;
  std::vector<std::byte> packet_;
};

}  // namespace conclave::fabric
