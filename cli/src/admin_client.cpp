#include "admin_client.hpp"

#include <curl/curl.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "admin_key.hpp"
#include "chat_stream.hpp"
#include "conclave/base/text.hpp"
#include "conclave/http/client.hpp"
#include "conclave/http/uri.hpp"
#include "state_directory.hpp"

namespace conclave::cli {

using base::ErrorCode;
using base::fail;
using base::Result;
namespace json = boost::json;

namespace {

constexpr const char* kDefaultUrl = "http://127.0.0.1:8000";
// Long work is an operation that is asked after, so nothing that is answered takes longer.
constexpr std::chrono::milliseconds kTimeout{60'000};
// Pages of one list: with a hundred records each, as many as any list of ours has.
constexpr std::size_t kPagesMax = 10'000;

// The host as the client that connects reads the URL: another parser might see another one.
bool is_loopback(const std::string& url) {
  const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
  char* part = nullptr;
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK ||
      curl_url_get(parsed.get(), CURLUPART_HOST, &part, 0) != CURLUE_OK) {
    return false;
  }
  const std::unique_ptr<char, decltype(&curl_free)> freed(part, curl_free);
  const std::string_view host = part;
  const bool is_number = host.find_first_not_of("0123456789.") == std::string_view::npos;
  return host == "localhost" || host == "[::1]" || (is_number && host.starts_with("127."));
}

ErrorCode code_of(unsigned status) {
  switch (status) {
    case 404:
      return ErrorCode::kNotFound;
    case 401:
    case 403:
    case 409:
    case 412:
      return ErrorCode::kFailedPrecondition;
    case 429:
      return ErrorCode::kOverloaded;
    case 503:
      return ErrorCode::kUnavailable;
    case 504:
      return ErrorCode::kDeadlineExceeded;
    default:
      return status >= 500 ? ErrorCode::kInternal : ErrorCode::kInvalidArgument;
  }
}

// What the server says of an error, in one line, with what may be done about it.
base::Error refusal(const http::Response& response, bool has_key) {
  base::Error error = server_error(response);
  error.code = code_of(response.status);
  if (response.status == 401 && !has_key) {
    error.message += ": give an administrator's key with --key or CONCLAVE_ADMIN_KEY";
  }
  return error;
}

std::string encode(const AdminCall::Query& query) {
  std::string text;
  for (const auto& [name, value] : query) {
    if (value.empty()) continue;
    text += (text.empty() ? "?" : "&") + name + "=" + http::percent_encode(value);
  }
  return text;
}

// Answers of an API come with the type application/json, or one of its relatives.
bool is_json(const http::Response& response) {
  return response.content_type.find("json") != std::string::npos;
}

}  // namespace

std::string admin_path(const std::vector<std::string_view>& segments, std::string_view action) {
  std::string path = "/admin/v1";
  for (const std::string_view segment : segments) path += "/" + http::percent_encode(segment);
  return path + std::string(action);
}

Result<AdminClient> AdminClient::open(const AdminTarget& target) {
  const std::filesystem::path state = state_directory(target.state);
  std::string url = target.url;
  if (url.empty()) {
    const auto up = read_addresses(state);
    // Somebody who names a directory means what runs there, not what else may be on this machine.
    if (!up && (up.error().code != ErrorCode::kNotFound || !target.state.empty())) {
      return fail(up.error());
    }
    url = up ? up->url : kDefaultUrl;
  }
  while (url.ends_with('/')) url.pop_back();
  std::string key = target.key;
  if (key.empty() && is_loopback(url)) {
    auto found = read_admin_key(state);
    if (!found && found.error().code != ErrorCode::kNotFound) return fail(found.error());
    if (found) key = *std::move(found);
  }
  return AdminClient(std::move(url), std::move(key));
}

Result<AdminAnswer> AdminClient::call(const AdminCall& call) const {
  http::ClientRequest request{.method = call.method,
                              .url = url_ + call.path + encode(call.query),
                              .timeout = kTimeout,
                              .stop = stop_};
  if (!key_.empty()) request.headers.push_back({"Authorization", "Bearer " + key_});
  if (!call.if_match.empty()) request.headers.push_back({"If-Match", call.if_match});
  if (!call.body.is_null()) {
    request.headers.push_back({"Content-Type", "application/json"});
    request.body = json::serialize(call.body);
  }
  auto response = http::fetch(request);
  if (!response) return fail(std::move(response).error().within(url_));
  if (response->status < 200 || response->status > 299) {
    return fail(refusal(*response, !key_.empty()));
  }
  AdminAnswer answer;
  answer.status = response->status;
  answer.etag = response->header("ETag");
  answer.stale = response->header("X-Conclave-Stale") == "true";
  if (response->body.empty()) return answer;
  boost::system::error_code error;
  if (is_json(*response)) answer.body = json::parse(response->body, error);
  if (error || !is_json(*response)) {
    return fail(ErrorCode::kCorruptData,
                url_ + call.path + ": the answer is no JSON: " + base::shown(response->body));
  }
  return answer;
}

Result<json::array> AdminClient::list(const std::string& path, const AdminCall::Query& query,
                                      std::size_t most, bool* stale, const char* cursor) const {
  json::array all;
  std::string after;
  for (std::size_t page = 0; page < kPagesMax; ++page) {
    AdminCall::Query asked = query;
    if (!after.empty()) asked.emplace_back(cursor, after);
    CONCLAVE_TRY(AdminAnswer answer, get(path, std::move(asked)));
    if (stale != nullptr && answer.stale) *stale = true;
    json::object* object = answer.body.if_object();
    json::value* data = object == nullptr ? nullptr : object->if_contains("data");
    if (data == nullptr || !data->is_array()) {
      return fail(ErrorCode::kCorruptData, path + ": the answer is no list");
    }
    for (json::value& record : data->get_array()) {
      if (all.size() == most) return all;
      all.push_back(std::move(record));
    }
    const std::string next = cell(answer.body, "/next");
    if (next.empty()) return all;
    if (next == after) break;
    after = next;
  }
  return fail(ErrorCode::kCorruptData, path + ": its pages do not end");
}

std::string cell(const json::value& value, std::string_view pointer) {
  boost::system::error_code absent;
  const json::value* found = value.find_pointer(pointer, absent);
  if (found == nullptr || found->is_null() || found->is_object()) return "";
  if (const json::string* text = found->if_string()) {
    std::string shown(*text);
    std::ranges::replace_if(
        shown, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; }, '?');
    return shown;
  }
  if (const json::array* array = found->if_array()) {
    std::string joined;
    for (const json::value& item : *array) {
      joined += (joined.empty() ? "" : ", ") + cell(item, "");
    }
    return joined;
  }
  return json::serialize(*found);
}

}  // namespace conclave::cli
