#include "fabric_bench_ends.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <span>
#include <utility>
#include <zmq.hpp>

#include "conclave/base/check.hpp"
#include "conclave/fabric/call_client.hpp"
#include "conclave/fabric/call_server.hpp"
#include "conclave/fabric/context.hpp"
#include "conclave/fabric/keys.hpp"

namespace conclave::bench {

namespace {

using fabric::CallClient;
using fabric::CallServer;
using fabric::IncomingCall;
using std::chrono::steady_clock;

constexpr std::uint32_t kHidden = 1024;

/// A call whose payload is `bytes` of floats, and its answer as long.
wire::ExpertCall call_of(std::size_t bytes) {
  wire::ExpertCall call;
  call.rows = static_cast<std::uint32_t>(bytes / sizeof(float) / kHidden);
  call.pairs = call.rows;
  call.hidden = kHidden;
  call.forms = wire::RowForms::kFloats;
  return call;
}

void echo(CallServer& server, IncomingCall& call) {
  const auto layout = wire::layout_of(call.call);
  std::memcpy(call.reply.data(), call.payload.data() + layout->floats, call.reply.size());
  server.answer(call, {});
}

void report(int pipe, const std::string& address) {
  const std::string line = address + "\n";
  CONCLAVE_CHECK(::write(pipe, line.data(), line.size()) == static_cast<ssize_t>(line.size()));
  ::close(pipe);
}

[[noreturn]] void run_bare(int pipe) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::router);
  socket.bind("tcp://127.0.0.1:0");
  report(pipe, socket.get(zmq::sockopt::last_endpoint));
  for (;;) {
    zmq::message_t id;
    zmq::message_t payload;
    if (!socket.recv(id) || !socket.recv(payload)) continue;
    // Reads its input and writes its output, as whoever computes does.
    zmq::message_t answer(payload.size());
    std::memcpy(answer.data(), payload.data(), payload.size());
    socket.send(id, zmq::send_flags::sndmore);
    socket.send(answer, zmq::send_flags::none);
  }
}

[[noreturn]] void run_fabric(int pipe, const std::filesystem::path& keys, Kind kind) {
  telemetry::Metrics metrics;
  auto ring = fabric::KeyRing::load(keys, wire::NodeRole::kExpertWorker);
  auto context = fabric::Context::create(std::move(*ring), {}, metrics);
  fabric::DataSettings settings;
  if (kind == Kind::kPlain) settings.encryption = fabric::Encryption::kNone;
  auto server = CallServer::create(**context, "worker", 1, settings, {});
  report(pipe, *(*server)->listen("tcp://127.0.0.1:0"));
  for (;;) {
    for (IncomingCall* call : (*server)->poll(steady_clock::time_point::max())) {
      echo(**server, *call);
    }
  }
}

class BareCaller final : public Caller {
 public:
  BareCaller(const std::vector<std::string>& addresses, std::size_t fan_out) {
    for (std::size_t i = 0; i < fan_out; ++i) {
      sockets_.emplace_back(context_, zmq::socket_type::dealer);
      sockets_.back().connect(addresses[i]);
      items_.push_back({sockets_.back().handle(), 0, ZMQ_POLLIN, 0});
    }
  }

  void round(std::size_t bytes) override {
    source_.resize(bytes);
    for (zmq::socket_t& socket : sockets_) socket.send(zmq::buffer(source_));
    if (sockets_.size() == 1) return take(sockets_[0], bytes);
    for (std::size_t got = 0; got < sockets_.size();) {
      zmq::poll(items_);
      for (std::size_t i = 0; i < sockets_.size(); ++i) {
        if ((items_[i].revents & ZMQ_POLLIN) == 0) continue;
        take(sockets_[i], bytes);
        ++got;
      }
    }
  }

 private:
  void take(zmq::socket_t& socket, std::size_t bytes) {
    zmq::message_t answer;
    CONCLAVE_CHECK(socket.recv(answer) && answer.size() == bytes);
    result_.resize(bytes);
    std::memcpy(result_.data(), answer.data(), bytes);
  }

  zmq::context_t context_;
  std::vector<zmq::socket_t> sockets_;
  std::vector<zmq::pollitem_t> items_;
  std::vector<std::byte> source_;
  std::vector<std::byte> result_;
};

class FabricCaller final : public Caller {
 public:
  FabricCaller(std::vector<std::string> addresses, const fabric::DataSettings& settings,
               std::optional<fabric::KeyRing> keys)
      : context_(std::move(*fabric::Context::create(std::move(keys), {}, metrics_))),
        client_(std::move(*CallClient::create(*context_, "router", 1, settings))) {
    for (const std::string& address : addresses) {
      if (address.starts_with("direct://")) serve(address.substr(std::strlen("direct://")));
      links_.push_back(*client_->connect(address));
    }
    const auto all_up = [this] {
      return std::ranges::all_of(links_, [this](auto link) { return client_->is_up(link); });
    };
    while (!all_up()) client_->poll(steady_clock::time_point::max());
  }

  void round(std::size_t bytes) override {
    source_.resize(bytes);
    const wire::ExpertCall call = call_of(bytes);
    const std::size_t at = wire::layout_of(call)->floats;
    const auto deadline = steady_clock::now() + std::chrono::seconds(60);
    for (const fabric::DataLinkId link : links_) {
      const auto buffer = client_->prepare(link, call);
      CONCLAVE_CHECK(buffer.has_value());
      write_pairs(buffer->payload, call.pairs);
      std::memcpy(buffer->payload.data() + at, source_.data(), bytes);
      client_->send(buffer->id, {}, deadline);
    }
    for (std::size_t got = 0; got < links_.size();) {
      for (const fabric::CallEvent& event : client_->poll(deadline)) {
        if (event.kind == fabric::CallEvent::Kind::kUp) continue;
        CONCLAVE_CHECK(event.kind == fabric::CallEvent::Kind::kReply && event.reply.ok &&
                       event.payload.size() == bytes);
        result_.resize(bytes);
        std::memcpy(result_.data(), event.payload.data(), bytes);
        client_->release(event.call);
        ++got;
      }
    }
  }

 private:
  void serve(const std::string& name) {
    servers_.push_back(std::move(*CallServer::create(*context_, name, 1, {}, {})));
    CallServer& server = *servers_.back();
    CONCLAVE_CHECK(server
                       .serve_direct(name,
                                     [&server](std::span<IncomingCall* const> calls) {
                                       for (IncomingCall* call : calls) echo(server, *call);
                                     })
                       .has_value());
  }

  static void write_pairs(std::span<std::byte> payload, std::uint32_t count) {
    for (std::uint32_t row = 0; row < count; ++row) {
      const fabric::CallPair pair{row, 0};
      std::memcpy(payload.data() + row * sizeof pair, &pair, sizeof pair);
    }
  }

  telemetry::Metrics metrics_;
  std::unique_ptr<fabric::Context> context_;
  std::vector<std::unique_ptr<CallServer>> servers_;
  std::unique_ptr<CallClient> client_;
  std::vector<fabric::DataLinkId> links_;
  std::vector<std::byte> source_;
  std::vector<std::byte> result_;
};

}  // namespace

Workers::Workers(const std::filesystem::path& keys, std::size_t count) {
  for (const Kind kind : {Kind::kBare, Kind::kEncrypted, Kind::kPlain}) {
    for (std::size_t i = 0; i < count; ++i) {
      addresses_[static_cast<std::size_t>(kind)].push_back(start(keys, kind));
    }
  }
}

Workers::~Workers() {
  for (const pid_t process : processes_) ::kill(process, SIGKILL);
  for (const pid_t process : processes_) ::waitpid(process, nullptr, 0);
}

std::string Workers::start(const std::filesystem::path& keys, Kind kind) {
  std::array<int, 2> pipe{};
  CONCLAVE_CHECK(::pipe(pipe.data()) == 0);
  const pid_t process = ::fork();
  CONCLAVE_CHECK(process >= 0);
  if (process == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // if the bench is killed, so are its workers
    ::close(pipe[0]);
    if (kind == Kind::kBare) run_bare(pipe[1]);
    run_fabric(pipe[1], keys, kind);
  }
  processes_.push_back(process);
  ::close(pipe[1]);
  std::string address;
  for (char c = 0; ::read(pipe[0], &c, 1) == 1 && c != '\n';) address += c;
  ::close(pipe[0]);
  CONCLAVE_CHECK(!address.empty());
  return address;
}

std::unique_ptr<Caller> bare_caller(const Workers& workers, std::size_t fan_out) {
  return std::make_unique<BareCaller>(workers.addresses(Kind::kBare), fan_out);
}

std::unique_ptr<Caller> fabric_caller(const Workers& workers, std::size_t fan_out, Road road,
                                      const std::filesystem::path& keys) {
  fabric::DataSettings settings;
  settings.shared_memory = road == Road::kShared;
  if (road == Road::kFramesPlain) settings.encryption = fabric::Encryption::kNone;
  std::vector<std::string> addresses;
  for (std::size_t i = 0; i < fan_out; ++i) {
    const Kind kind = road == Road::kFramesPlain ? Kind::kPlain : Kind::kEncrypted;
    addresses.push_back(road == Road::kDirect ? "direct://worker-" + std::to_string(i)
                                              : workers.addresses(kind)[i]);
  }
  return std::make_unique<FabricCaller>(
      std::move(addresses), settings,
      std::move(*fabric::KeyRing::load(keys, wire::NodeRole::kRouter)));
}

}  // namespace conclave::bench
