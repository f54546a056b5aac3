// The two ends that fabric_bench measures: worker processes that echo, and the ways to call them.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace conclave::bench {

/// What a worker process runs.
enum class Kind { kBare, kEncrypted, kPlain };

/// Processes that live until this dies. Made before anything starts a thread.
class Workers {
 public:
  /// `count` of each kind.
  Workers(const std::filesystem::path& keys, std::size_t count);
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  [[nodiscard]] const std::vector<std::string>& addresses(Kind kind) const {
    return addresses_[static_cast<std::size_t>(kind)];
  }

 private:
  std::string start(const std::filesystem::path& keys, Kind kind);

  std::vector<pid_t> processes_;
  std::vector<std::string> addresses_[3];
};

/// One way to exchange payloads with `fan_out` workers.
class Caller {
 public:
  virtual ~Caller() = default;
  /// Sends a payload of floats to every worker and waits for all answers, which are as long. Both
  /// ends copy payloads in and out, as whoever computes with them does.
  virtual void round(std::size_t bytes) = 0;
};

enum class Road { kShared, kFrames, kFramesPlain, kDirect };

/// A bare ZeroMQ ping-pong: DEALER to ROUTER over TCP, no header, no encryption. It waits in recv
/// for one worker and in zmq_poll for several.
std::unique_ptr<Caller> bare_caller(const Workers& workers, std::size_t fan_out);
/// The fabric's own, with the default settings but for what the road says.
std::unique_ptr<Caller> fabric_caller(const Workers& workers, std::size_t fan_out, Road road,
                                      const std::filesystem::path& keys);

}  // namespace conclave::bench
