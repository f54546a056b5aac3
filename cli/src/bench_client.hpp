// Sends many requests at once to one endpoint and reads their answers, in one thread: it shares the
// machine with the server that it measures.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "bench_pacer.hpp"
#include "bench_tally.hpp"
#include "bench_transport.hpp"
#include "conclave/base/result.hpp"

namespace conclave::cli {

/// More requests under way than that are not asked for: each has a connection, and a process has
/// 1,024 descriptors unless somebody raised it.
inline constexpr std::uint32_t kConnectionsMax = 900;

struct LoadClientOptions {
  TransportSettings endpoint;
  bool stream = true;
  std::uint64_t prompt_tokens = 0;  // of each request, if the server does not tell
  /// Over libcurl also where plain sockets would do.
  bool always_curl = false;
};

/// One load: one run() of one plan. One thread.
class LoadClient final : private AnswerSink {
 public:
  /// `number` counts the requests from 0.
  using Body = std::function<std::string(std::uint64_t number)>;
  /// Called now and then with the requests that have ended.
  using Progress = std::function<void(std::uint64_t ended)>;

  /// `tally` must outlive it.
  LoadClient(LoadClientOptions options, const LoadPlan& plan, LoadTally& tally);

  /// Until all that the plan sends has been answered, or `stop` (noticed within 100 ms; what is
  /// under way is then given up). Requests that fail are counted in the tally. Returns the seconds
  /// that it took. kUnavailable: a hundred requests in a row found no server; and the errors of
  /// socket_transport and curl_transport.
  base::Result<double> run(const Body& body, const std::stop_token& stop, const Progress& progress);

 private:
  struct Slot {
    double due_s = 0.0;
    bool busy = false;
    AnswerReader answer;
    base::Status read;        // what the reader said
    std::string explanation;  // the body of an answer that is an error
  };

  bool on_body(std::size_t slot, unsigned status, std::string_view bytes) override;
  void on_end(std::size_t slot, base::Result<unsigned> status) override;

  base::Result<std::unique_ptr<Transport>> connect();
  std::optional<double> send_due(const Body& body);
  void count(Slot& slot, const base::Result<unsigned>& status);
  void fail_with(const std::string& kind, const std::string& message);
  void give_up();
  [[nodiscard]] double now() const;

  LoadClientOptions options_;
  LoadTally& tally_;
  Pacer pacer_;
  std::vector<Slot> slots_;
  std::vector<std::size_t> idle_;
  std::unique_ptr<Transport> transport_;
  std::chrono::steady_clock::time_point start_;
  std::uint64_t ended_ = 0;
  unsigned refusals_ = 0;  // in a row
  std::string last_problem_;
};

}  // namespace conclave::cli
