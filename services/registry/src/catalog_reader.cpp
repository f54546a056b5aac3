#include "catalog_reader.hpp"

#include <utility>

#include "conclave/catalog/reference.hpp"

namespace conclave::registry {

using base::ErrorCode;
using base::Result;

namespace {

// A record's texts are names and one URI; aliases are the most of it.
std::size_t bytes_of(const wire::ModelRecord& record) {
  return sizeof record + 512 + record.aliases.size() * 64;
}

}  // namespace

template <class Answer>
Result<Answer> CatalogReader::ask(Snapshot<Answer>& snapshot, const std::string& question,
                                  const std::function<Result<Answer>()>& catalog,
                                  const std::function<std::size_t(const Answer&)>& size) {
  Result<Answer> answer = catalog();
  if (answer) {
    snapshot.keep(question, *answer, size(*answer));
    return answer;
  }
  if (answer.error().code != ErrorCode::kUnavailable) {
    snapshot.forget(question);  // what it was is not so any more
    return answer;
  }
  auto known = snapshot.find(question);
  if (!known) return answer;
  away_(answer.error());
  return *std::move(known);
}

Result<wire::ModelRecord> CatalogReader::resolve(const wire::ResolveModel& question) {
  return ask<wire::ModelRecord>(
      records_, question.reference, [&] { return models_.resolve(question.reference); }, bytes_of);
}

Result<wire::ModelList> CatalogReader::list(const wire::ListModels& question) {
  return ask<wire::ModelList>(
      lists_, question.after + " " + std::to_string(question.limit),
      [&] { return models_.list(question); },
      [](const wire::ModelList& list) {
        std::size_t bytes = sizeof list;
        for (const wire::ModelRecord& record : list.models) bytes += bytes_of(record);
        return bytes;
      });
}

Result<wire::ModelDigests> CatalogReader::digests(const wire::DigestsRequest& question) {
  return ask<wire::ModelDigests>(
      digests_, catalog::format_reference(question.name, question.version),
      [&] { return models_.digests(question); },
      [](const wire::ModelDigests& digests) {
        return sizeof digests + digests.expert.size() * sizeof(wire::Sha256);
      });
}

}  // namespace conclave::registry
