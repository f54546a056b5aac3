// The gateway service: the OpenAI-compatible HTTP API in front of the routers.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "conclave/app/service.hpp"
#include "conclave/base/result.hpp"
#include "conclave/config/secret.hpp"
#include "conclave/fleet/process.hpp"
#include "conclave/fleet/settings.hpp"

namespace conclave::gateway {

/// Section `gateway`.
struct GatewaySettings {
  std::string host = "127.0.0.1";
  std::uint16_t port = 8000;
  // One thread parses some ten thousand requests a second.
  std::uint32_t http_threads = 1;
  // Each open prompt holds its text, its tokens so far and its answer; 1024 is more than routers
  // batch at once.
  std::uint32_t streams_max = 1024;
  // As long as OpenAI's own clients wait.
  std::chrono::milliseconds request_timeout{600'000};
  // A router that is started again has its backbone loaded by then.
  std::chrono::milliseconds resume_timeout{30'000};
  // A router that ends is replaced within a second, and a link within less.
  std::chrono::milliseconds hold_timeout{5'000};
  // 100 bytes each: 8 Mi tokens of beginnings, more than the caches of some routers hold.
  std::uint32_t prefix_blocks_max = 65'536;
  // A prompt of 128k tokens is below 1 MiB.
  std::uint64_t body_bytes_max = std::uint64_t{8} << 20;
  // More than streams_max, so that those beyond it are told why and when to come back.
  std::uint32_t connections_max = 4096;
  // Some thousand tokens that a client has not taken yet.
  std::uint64_t stream_buffer_bytes_max = std::uint64_t{1} << 20;
  std::vector<std::string> registry{"tcp://127.0.0.1:7601"};
  std::string usage_spool;
  bool require_key = false;
  config::Secret redis;
  std::string redis_password_file;
  // Some hundred times what Redis takes nearby; a client does not notice it.
  std::chrono::milliseconds redis_timeout{50};

  template <class Visitor>
  void visit(Visitor&& v) {
    using std::chrono::milliseconds;
    v("host", host, "Address of the API (0.0.0.0: every interface)");
    v("port", port, 0, 65535, "Its port (0: a free one, named in the log)");
    v("http-threads", http_threads, 1u, 64u, "Threads that read requests and write answers");
    v("streams-max", streams_max, 1u, 1u << 20,
      "Prompts that may be open; beyond, clients get 429");
    v("request-timeout-ms", request_timeout, milliseconds{1}, milliseconds{86'400'000},
      "Longest life of a request, a stream to its end");
    v("resume-timeout-ms", resume_timeout, milliseconds{0}, milliseconds{3'600'000},
      "How long a stream that lost its router may wait for another one");
    v("hold-timeout-ms", hold_timeout, milliseconds{0}, milliseconds{600'000},
      "How long a new request waits where the last router went so long ago at most (0: it is "
      "refused)");
    v("prefix-blocks-max", prefix_blocks_max, 0u, 1u << 24,
      "Blocks of 128 tokens of prompts of which is known where they went (0: none)");
    v("body-bytes-max", body_bytes_max, std::uint64_t{1024}, std::uint64_t{16} << 20,
      "Longest body of a request");
    v("connections-max", connections_max, 1u, 1u << 20, "Connections that may be open");
    v("stream-buffer-bytes-max", stream_buffer_bytes_max, std::uint64_t{1} << 12,
      std::uint64_t{1} << 28, "What may wait for a slow client before it is given up");
    v("registry", registry, "Addresses of the registries, which know keys and keep usage");
    v("usage-spool", usage_spool,
      "File for usage that the registry does not have yet, or one beside it if another gateway has "
      "it (default: it is kept in memory only)");
    v("require-key", require_key,
      "Chats and completions need an API key (false: one that is shown counts, none has to be)");
    v("redis", redis,
      "redis://[:password@]host[:port][/db], where gateways count quotas together (default: each "
      "counts by itself)");
    v("redis-password-file", redis_password_file, "File with its password, if the URL has none");
    v("redis-timeout-ms", redis_timeout, milliseconds{1}, milliseconds{1000},
      "How long a request waits for Redis before this gateway counts by itself");
  }
};

class GatewayService {
 public:
  static constexpr std::string_view kName = "gateway";
  static constexpr std::string_view kDescription =
      "Serves the OpenAI-compatible API and spreads requests over the routers";

  struct Settings {
    GatewaySettings gateway;
    fleet::FleetSettings fleet;
    fleet::FabricSettings fabric;

    template <class Visitor>
    void sections(Visitor&& v) {
      v("gateway", gateway);
      v("fleet", fleet);
      v("fabric", fabric);
    }
  };

  /// What the services of one process lend each other; null: the service makes its own.
  struct Lent {
    fleet::Process* process = nullptr;
  };

  static base::Result<std::unique_ptr<GatewayService>> create(const Settings& settings,
                                                              app::ServiceContext& context) {
    return create(settings, context, {});
  }
  static base::Result<std::unique_ptr<GatewayService>> create(const Settings& settings,
                                                              app::ServiceContext& context,
                                                              const Lent& lent);
  ~GatewayService();

  base::Status start();
  /// Ok if a request would be given to a router.
  [[nodiscard]] base::Status ready() const;
  /// Refuses new requests with 503 and finishes those that are open.
  void drain(std::chrono::steady_clock::time_point deadline);
  void stop();

  /// Of the API, also if the settings said 0; from start() on.
  [[nodiscard]] std::uint16_t port() const;

 private:
  class Impl;
  explicit GatewayService(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace conclave::gateway
