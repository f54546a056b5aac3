#include "postgres_watch.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>
#include <thread>
#include <utility>

#include "postgres_connection.hpp"
#include "postgres_schema.hpp"

namespace conclave::catalog::postgres {
namespace {

using base::ErrorCode;
using base::fail;
using base::Result;

// Between two tries to reach a server that is away.
constexpr int kRetryFirstMs = 50;
constexpr int kRetryLastMs = 1000;
// A connection on which nothing comes is asked whether it still is one, and a notification that was
// lost, which PostgreSQL does not do, would be made good.
constexpr int kAskEveryMs = 10'000;

class Listener final : public pqxx::notification_receiver {
 public:
  explicit Listener(pqxx::connection& connection)
      : pqxx::notification_receiver(connection, kChannel) {}
  void operator()(const std::string&, int) override {}
};

class PostgresWatch final : public Watch {
 public:
  PostgresWatch(int ended, std::string connection_string, const CatalogOptions& options,
                std::function<void(std::uint64_t)> changed)
      : ended_(ended),
        connection_string_(std::move(connection_string)),
        options_(options),
        changed_(std::move(changed)),
        thread_([this] { run(); }) {}

  ~PostgresWatch() override {
    const std::uint64_t one = 1;
    while (::write(ended_, &one, sizeof one) < 0 && errno == EINTR) {
    }
    thread_.join();
    ::close(ended_);
  }

 private:
  void run() {
    int retry_ms = kRetryFirstMs;
    while (true) {
      try {
        listen(retry_ms);
        return;
      } catch (const std::exception&) {
        // Callers hear of the server from their own calls; here the answer is to try again.
      }
      if (wait(-1, retry_ms)) return;
      retry_ms = std::min(2 * retry_ms, kRetryLastMs);
    }
  }

  // Until the end, or until the connection fails.
  void listen(int& retry_ms) {
    Connection connection(connection_string_, options_);
    // First listens, then looks: what happens in between is told twice rather than not at all.
    Listener listener(connection.raw());
    while (true) {
      tell(connection);
      retry_ms = kRetryFirstMs;
      if (wait(connection.raw().sock(), kAskEveryMs)) return;
      connection.raw().get_notifs();
    }
  }

  void tell(Connection& connection) {
    connection.prepare(sql::kReadRevision);
    pqxx::nontransaction question(connection.raw());
    const pqxx::result rows = question.exec_prepared(sql::kReadRevision.name);
    if (rows.empty()) return;
    const auto now = rows[0][0].as<std::uint64_t>();
    if (told_ == now) return;
    told_ = now;
    changed_(now);
  }

  // Until something comes on `socket`, or the time is over; true: the watch ends.
  [[nodiscard]] bool wait(int socket, int time_ms) const {
    std::array<pollfd, 2> files{pollfd{ended_, POLLIN, 0}, pollfd{socket, POLLIN, 0}};
    ::poll(files.data(), files.size(), time_ms);
    return (files[0].revents & POLLIN) != 0;
  }

  const int ended_;  // an eventfd
  const std::string connection_string_;
  const CatalogOptions options_;
  const std::function<void(std::uint64_t)> changed_;
  std::optional<std::uint64_t> told_;
  std::thread thread_;  // last: it uses everything above
};

}  // namespace

Result<std::unique_ptr<Watch>> start_watch(const std::string& connection_string,
                                           const CatalogOptions& options,
                                           std::function<void(std::uint64_t)> changed) {
  const int ended = ::eventfd(0, EFD_CLOEXEC);
  if (ended < 0) return fail(ErrorCode::kUnavailable, "no file for a watch");
  return std::unique_ptr<Watch>(
      std::make_unique<PostgresWatch>(ended, connection_string, options, std::move(changed)));
}

}  // namespace conclave::catalog::postgres
