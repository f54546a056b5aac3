#include "usage_book.hpp"

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <system_error>
#include <utility>

#include "conclave/wire/message.hpp"

namespace conclave::gateway {

using base::ErrorCode;
using base::fail;
using base::Status;

namespace {

constexpr std::string_view kNobody = "-";

std::string path_with(const std::filesystem::path& file, const char* suffix) {
  return file.string() + suffix;
}

}  // namespace

void UsageBook::add(const wire::UsageRow& row) {
  ++changes_;
  Key key{row.tenant, row.key_id, row.model, row.day};
  if (waiting_.size() >= wire::kUsageRowsMax - 1 && !waiting_.contains(key)) {
    key = {std::string(kNobody), std::string(kNobody), std::string(kNobody), row.day};
  }
  wire::UsageRow& sum = waiting_[key];
  std::tie(sum.tenant, sum.key_id, sum.model, sum.day) = key;
  sum.requests += row.requests;
  sum.prompt_tokens += row.prompt_tokens;
  sum.completion_tokens += row.completion_tokens;
  sum.expert_pairs += row.expert_pairs;
  sum.device_us += row.device_us;
}

const wire::UsageBatch* UsageBook::batch() {
  if (!under_way_ && !waiting_.empty()) {
    ++changes_;
    under_way_.emplace();
    under_way_->id = prefix_ + "/" + std::to_string(++batches_);
    for (auto& [key, row] : waiting_) under_way_->rows.push_back(std::move(row));
    waiting_.clear();
  }
  return under_way_ ? &*under_way_ : nullptr;
}

void UsageBook::acknowledged() {
  ++changes_;
  under_way_.reset();
}

// Two messages of the wire, one after the other, each behind its length: the batch under way and
// what waits.
Status UsageBook::save(const std::filesystem::path& file) const {
  wire::UsageBatch rest;
  for (const auto& [key, row] : waiting_) rest.rows.push_back(row);
  const std::string fresh = path_with(file, ".new");
  {
    std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
    for (const wire::UsageBatch& batch : {under_way_.value_or(wire::UsageBatch{}), rest}) {
      const auto bytes = wire::try_encode(batch);
      if (!bytes) return fail(bytes.error());
      const std::uint64_t size = bytes->size();
      out.write(reinterpret_cast<const char*>(&size), sizeof size);
      out.write(reinterpret_cast<const char*>(bytes->data()), static_cast<std::streamsize>(size));
    }
    if (!out.flush()) return fail(ErrorCode::kUnavailable, fresh + " cannot be written");
  }
  std::error_code error;
  std::filesystem::rename(fresh, file, error);
  if (error) return fail(ErrorCode::kUnavailable, file.string() + ": " + error.message());
  return {};
}

Status UsageBook::load(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) return {};
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  std::array<wire::UsageBatch, 2> batches;
  for (wire::UsageBatch& batch : batches) {
    std::uint64_t size = 0;
    if (bytes.size() < sizeof size) break;
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes = bytes.subspan(sizeof size);
    if (bytes.size() < size) return fail(ErrorCode::kCorruptData, file.string() + " is cut short");
    auto message = wire::decode(wire::kTypeOf<wire::UsageBatch>, bytes.first(size));
    if (!message) return fail(message.error().within(file.string()));
    batch = std::get<wire::UsageBatch>(*std::move(message));
    bytes = bytes.subspan(size);
  }
  if (!batches[0].id.empty()) under_way_ = std::move(batches[0]);
  for (const wire::UsageRow& row : batches[1].rows) add(row);
  return {};
}

}  // namespace conclave::gateway
