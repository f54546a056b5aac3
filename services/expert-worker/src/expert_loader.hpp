// Turns assignments into hosted experts: opens the model's file, reads the bytes of what is
// missing, checks them against the registry's sums, packs them and hands them to the host, in the
// order of the assignment. One thread of its own; it never touches other bytes of the file.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "conclave/gguf/file.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/placement.hpp"
#include "expert_host.hpp"

namespace conclave::expert_worker {

struct LoaderOptions {
  std::uint64_t memory_bytes = 0;  // for all experts together; one more may be there meanwhile
  std::uint32_t slots = 0;         // most experts; 0: as memory allows
  /// When what failed is tried again: a volume may come late, or be mended. Long against reading a
  /// file's metadata and the bytes of some experts.
  std::chrono::milliseconds retry{10'000};
};

class ExpertLoader {
 public:
  /// `changed(settled)` is called on the loader's thread after every expert that came, and with
  /// true when an assignment is done with. The host must outlive the loader. Throws
  /// std::system_error if the system gives no thread.
  ExpertLoader(ExpertHost& host, const LoaderOptions& options, std::function<void(bool)> changed,
               telemetry::Metrics& metrics, telemetry::Logger log);
  ~ExpertLoader() { stop(); }
  ExpertLoader(const ExpertLoader&) = delete;
  ExpertLoader& operator=(const ExpertLoader&) = delete;

  /// Replaces the assignment before it, also one that is half done; older ones are dropped. Any
  /// thread.
  void assign(wire::Assignment assignment);

  /// Ends the thread after the expert that is being loaded; nothing is loaded from then on.
  void stop();

  /// Epoch of the last assignment that was taken on; 0: none.
  [[nodiscard]] std::uint64_t epoch() const;

  /// Why not everything assigned is hosted; empty if it is.
  [[nodiscard]] std::string problem() const;

 private:
  struct Model {
    wire::ModelVersion version;
    gguf::File file;
    model::ModelConfig config;
  };

  void work();
  bool next(std::optional<wire::Assignment>& assignment);
  [[nodiscard]] bool superseded() const;
  void apply(const wire::Assignment& assignment);
  base::Status open(const wire::ModelVersion& version);
  void drop_unlisted(const wire::Assignment& assignment);
  base::Status load(const wire::AssignedExpert& expert);
  base::Status load_checked(const wire::AssignedExpert& expert);
  [[nodiscard]] base::Status check_room(std::uint64_t bytes) const;
  void settle(std::string problem);

  ExpertHost& host_;
  const LoaderOptions options_;
  std::function<void(bool)> changed_;
  telemetry::Logger log_;
  telemetry::Counter& loaded_;
  telemetry::Counter& refused_;
  std::unique_ptr<Model> model_;  // the loader's thread only

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable wanted_;
  std::optional<wire::Assignment> next_;
  std::uint64_t epoch_ = 0;
  std::string problem_ = "no assignment yet";
  bool stop_ = false;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::expert_worker
