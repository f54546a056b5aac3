// Turns assignments into hosted experts: opens each version's file, reads the bytes of what is
// missing, checks them against the registry's sums, packs them and hands them to the host, about in
// the order of the assignment. It never touches other bytes of the file; of one that is elsewhere
// no others come over.
//
// The first experts of a model are loaded by all threads, since nothing can be computed before.
// Those that come later, beside calls, by one.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "aside.hpp"
#include "conclave/artifacts/store.hpp"
#include "conclave/base/arena.hpp"
#include "conclave/gguf/file.hpp"
#include "conclave/telemetry/log.hpp"
#include "conclave/telemetry/metrics.hpp"
#include "conclave/wire/placement.hpp"
#include "expert_host.hpp"

namespace conclave::expert_worker {

struct LoaderOptions {
  std::uint64_t memory_bytes = 0;  // for all experts together
  std::uint32_t slots = 0;         // most experts; 0: as memory allows
  unsigned threads = 1;            // that load the first experts of a model
  int nice = 0;                    // of all of them: see Aside
  /// Whether the system has so much memory for what an assignment adds; null: nobody asks.
  std::function<base::Status(std::uint64_t bytes)> check_memory;
  /// When what failed is tried again: a volume may come late, or be mended. Long against reading a
  /// file's metadata and the bytes of some experts.
  std::chrono::milliseconds retry{10'000};
};

class ExpertLoader {
 public:
  /// `changed(settled)` is called after every expert that came, and with true when an assignment is
  /// done with; on the loader's threads, one at a time. Host and store must outlive the loader.
  /// Throws std::system_error if the system gives no thread.
  ExpertLoader(ExpertHost& host, artifacts::Store& store, const LoaderOptions& options,
               std::function<void(bool)> changed, telemetry::Metrics& metrics,
               telemetry::Logger log);
  ~ExpertLoader() { stop(); }
  ExpertLoader(const ExpertLoader&) = delete;
  ExpertLoader& operator=(const ExpertLoader&) = delete;

  /// One for each version that is to be hosted, all of one epoch; not empty. They replace those
  /// before, also what is half done; older ones are dropped. Any thread.
  void assign(std::vector<wire::Assignment> assignments);

  /// Ends the thread after the expert that is being loaded; nothing is loaded from then on.
  void stop();

  /// Epoch of the last assignments that were taken on; 0: none.
  [[nodiscard]] std::uint64_t epoch() const;

  /// Why not everything assigned is hosted; empty if it is.
  [[nodiscard]] std::string problem() const;

  /// Experts assigned whose bytes are not those that were registered, as far as they were read; at
  /// most wire::kRefusedMax.
  [[nodiscard]] std::vector<wire::RefusedExpert> refused() const;

 private:
  struct Model {
    wire::ModelVersion version;
    gguf::File file;
    model::ModelConfig config;
    std::unique_ptr<artifacts::Image> image;  // null: the file has all of its bytes
  };

  // What an assignment adds.
  struct Work {
    Model& model;
    std::vector<wire::AssignedExpert> experts;
    std::size_t loaded = 0;
    std::size_t failed = 0;
    std::vector<wire::RefusedExpert> refused;  // of those, the first with wrong bytes
    base::Error first_error;
  };

  void work();
  using Assignments = std::vector<wire::Assignment>;  // empty: none yet
  bool next(Assignments& assignments);
  [[nodiscard]] bool superseded() const;
  void apply(const Assignments& assignments);
  /// Why not all of it is hosted; empty: it is.
  std::string apply(const wire::Assignment& assignment);
  void close_unlisted(const Assignments& assignments);
  base::Result<Model*> open(const wire::ModelVersion& version);
  void drop_unlisted(const wire::Assignment& assignment);
  [[nodiscard]] std::vector<wire::AssignedExpert> missing(const wire::Assignment& assignment) const;
  base::Status load_all(Work& work);
  void note_progress(const Work& work);
  void note_failure(Work& work, const wire::AssignedExpert& expert, const base::Error& error) const;
  void keep_refused(const wire::ModelVersion& model, std::vector<wire::RefusedExpert> refused);
  void forget_refused(const wire::ModelVersion& model);
  base::Status load(const Model& model, const wire::AssignedExpert& expert, base::Arena& arena,
                    Aside& aside);
  base::Result<model::Expert> bring(const Model& model, const wire::AssignedExpert& expert,
                                    base::Arena& arena);
  [[nodiscard]] static base::Result<model::Expert> read_checked(const Model& model,
                                                                const wire::AssignedExpert& expert,
                                                                base::Arena& arena);
  base::Status take_room(std::uint64_t bytes);
  void settle(std::string problem);

  ExpertHost& host_;
  artifacts::Store& store_;
  const LoaderOptions options_;
  std::function<void(bool)> changed_;
  telemetry::Logger log_;
  telemetry::Counter& loaded_;
  telemetry::Counter& refused_;
  // By wire::model_key_of; changed by the loader's thread only, between loads.
  std::map<std::uint64_t, std::unique_ptr<Model>> models_;

  std::mutex room_mutex_;  // guards what is being loaded, and that it becomes hosted
  std::uint64_t loading_bytes_ = 0;
  std::size_t loading_ = 0;

  mutable std::mutex mutex_;  // guards all that follows
  std::condition_variable wanted_;
  Assignments next_;  // empty: none
  std::uint64_t epoch_ = 0;
  std::string problem_ = "no assignment yet";
  std::vector<wire::RefusedExpert> refusals_;
  bool stop_ = false;

  std::thread thread_;  // last: it uses everything above
};

}  // namespace conclave::expert_worker
