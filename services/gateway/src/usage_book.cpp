#include "usage_book.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "conclave/wire/message.hpp"

namespace conclave::gateway {

using base::ErrorCode;
using base::fail;
using base::Status;
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kNobody = "-";

/// Of the system's last call, about this file.
Status system_failure(const fs::path& file) {
  return fail(ErrorCode::kUnavailable,
              file.string() + ": " + std::generic_category().message(errno));
}

Status sync_and_close(int descriptor, const fs::path& file) {
  const bool is_synced = ::fsync(descriptor) == 0;
  const Status failed = is_synced ? Status() : system_failure(file);
  ::close(descriptor);
  return failed;
}

Status sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return descriptor < 0 ? system_failure(folder) : sync_and_close(descriptor, folder);
}

Status write_synced(const fs::path& file, std::string_view text) {
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (descriptor < 0) return system_failure(file);
  while (!text.empty()) {
    const ssize_t written = ::write(descriptor, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const Status failed = system_failure(file);
      ::close(descriptor);
      return failed;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return sync_and_close(descriptor, file);
}

}  // namespace

// Where a row is counted. The row of nobody follows the newest day, so that it stays one.
UsageBook::Key UsageBook::key_of(const wire::UsageRow& row) {
  Key key{row.tenant, row.key_id, row.model, row.day};
  if (waiting_.size() < wire::kUsageRowsMax - 1 || waiting_.contains(key)) return key;
  const std::string nobody(kNobody);
  const auto after = waiting_.upper_bound({nobody, nobody, nobody, INT32_MAX});
  const auto newest = after == waiting_.begin() ? waiting_.end() : std::prev(after);
  const Key last = newest == waiting_.end() ? Key{} : newest->first;
  if (last != Key{nobody, nobody, nobody, std::get<3>(last)})
    return {nobody, nobody, nobody, row.day};
  if (waiting_.size() < wire::kUsageRowsMax) return key;
  if (std::get<3>(last) >= row.day) return last;
  auto moved = waiting_.extract(newest);
  std::get<3>(moved.key()) = row.day;
  return waiting_.insert(std::move(moved)).position->first;
}

void UsageBook::add(const wire::UsageRow& row) {
  ++changes_;
  const Key key = key_of(row);
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

wire::UsageBatch UsageBook::set_aside() {
  ++changes_;
  wire::UsageBatch batch = std::move(under_way_).value();
  under_way_.reset();
  return batch;
}

// Two messages of the wire, one after the other, each behind its length: the batch under way and
// what waits.
Status UsageBook::save(const fs::path& file) const {
  wire::UsageBatch rest;
  for (const auto& [key, row] : waiting_) rest.rows.push_back(row);
  std::string text;
  for (const wire::UsageBatch& batch : {under_way_.value_or(wire::UsageBatch{}), rest}) {
    const auto bytes = wire::try_encode(batch);
    if (!bytes) return fail(bytes.error());
    const std::uint64_t size = bytes->size();
    text.append(reinterpret_cast<const char*>(&size), sizeof size);
    text.append(reinterpret_cast<const char*>(bytes->data()), size);
  }
  const std::string fresh = file.string() + ".new";
  CONCLAVE_TRY_VOID(write_synced(fresh, text));
  if (std::rename(fresh.c_str(), file.c_str()) != 0) return system_failure(file);
  return sync_folder(file.has_parent_path() ? file.parent_path() : fs::path("."));
}

Status UsageBook::load(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error) && !error) return {};
  std::ifstream in(file, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  if (!in) return fail(ErrorCode::kUnavailable, file.string() + " cannot be read");
  const Status loaded = read(text);
  if (loaded) return {};
  const std::string damaged = file.string() + ".damaged";
  if (std::rename(file.c_str(), damaged.c_str()) != 0) return system_failure(file);
  return fail(ErrorCode::kCorruptData,
              loaded.error().within(file.string()).message + "; it is " + damaged + " now");
}

Status UsageBook::read(const std::string& text) {
  std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  std::array<wire::UsageBatch, 2> batches;
  for (wire::UsageBatch& batch : batches) {
    std::uint64_t size = 0;
    if (bytes.size() < sizeof size) return fail(ErrorCode::kCorruptData, "it is cut short");
    std::memcpy(&size, bytes.data(), sizeof size);
    bytes = bytes.subspan(sizeof size);
    if (bytes.size() < size) return fail(ErrorCode::kCorruptData, "it is cut short");
    CONCLAVE_TRY(auto message, wire::decode(wire::kTypeOf<wire::UsageBatch>, bytes.first(size)));
    batch = std::get<wire::UsageBatch>(std::move(message));
    bytes = bytes.subspan(size);
  }
  if (!bytes.empty()) return fail(ErrorCode::kCorruptData, "something follows its end");
  if (!batches[0].id.empty()) under_way_ = std::move(batches[0]);
  for (const wire::UsageRow& row : batches[1].rows) add(row);
  return {};
}

}  // namespace conclave::gateway
