// Questions about models, answered from the last answers while the database is away: a scheduler
// that starts then still learns what it is to serve.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "conclave/catalog/catalog.hpp"
#include "snapshot.hpp"

namespace conclave::registry {

/// One thread; calls wait for the database. The catalogue must outlive it.
class CatalogReader {
 public:
  /// `away` is called when an answer is not the database's, with its error.
  CatalogReader(catalog::Models& models, std::function<void(const base::Error&)> away)
      : models_(models), away_(std::move(away)) {}

  /// Each as the catalogue's; kUnavailable if that is and the same was not asked before.
  base::Result<wire::ModelRecord> resolve(const wire::ResolveModel& question);
  base::Result<wire::ModelList> list(const wire::ListModels& question);
  base::Result<wire::ModelDigests> digests(const wire::DigestsRequest& question);

 private:
  // References that fleets name, and pages that people look at; sums take 3 MB of the largest
  // model.
  static constexpr std::size_t kAnswersMax = 1024;
  static constexpr std::size_t kAnswerBytesMax = std::size_t{64} << 20;

  template <class Answer>
  base::Result<Answer> ask(Snapshot<Answer>& snapshot, const std::string& question,
                           const std::function<base::Result<Answer>()>& catalog,
                           const std::function<std::size_t(const Answer&)>& bytes_of);

  catalog::Models& models_;
  std::function<void(const base::Error&)> away_;
  Snapshot<wire::ModelRecord> records_{kAnswersMax, kAnswerBytesMax};
  Snapshot<wire::ModelList> lists_{kAnswersMax, kAnswerBytesMax};
  Snapshot<wire::ModelDigests> digests_{kAnswersMax, kAnswerBytesMax};
};

}  // namespace conclave::registry
