#include "response_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <iterator>
#include <string_view>

#include "ascii.hpp"

namespace conclave::http {
namespace {

constexpr unsigned kInternalServerError = 500;

/// Written by the server alone: two opinions on where a body ends would split a connection.
bool is_framing(std::string_view name) {
  return equals_no_case(name, "Content-Length") || equals_no_case(name, "Transfer-Encoding") ||
         equals_no_case(name, "Connection") || equals_no_case(name, "Date");
}

bool is_token(std::string_view name) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !name.empty() && std::all_of(name.begin(), name.end(), [&](char c) {
    return is_digit(c) || (to_lower(c) >= 'a' && to_lower(c) <= 'z') ||
           kMarks.find(c) != std::string_view::npos;
  });
}

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  for (const char c : value) out.push_back(c == '\r' || c == '\n' || c == '\0' ? ' ' : c);
  out.append("\r\n");
}

void append_framing(std::string& out, const Response& response, HeadTerms::Framing framing) {
  switch (framing) {
    case HeadTerms::Framing::kLength:
      fmt::format_to(std::back_inserter(out), "Content-Length: {}\r\n", response.body.size());
      break;
    case HeadTerms::Framing::kChunked:
      out.append("Transfer-Encoding: chunked\r\n");
      break;
    case HeadTerms::Framing::kUntilClose:
      break;
  }
}

}  // namespace

bool may_have_body(unsigned status) { return status != 204 && status != 304; }

void append_head(std::string& out, const Response& response, const HeadTerms& terms) {
  const bool valid = response.status >= 200 && response.status <= 599;
  const unsigned status = valid ? response.status : kInternalServerError;
  fmt::format_to(std::back_inserter(out), "HTTP/1.1 {} {}\r\n", status, reason_phrase(status));
  if (may_have_body(status)) {
    if (!response.content_type.empty()) append_field(out, "Content-Type", response.content_type);
    append_framing(out, response, terms.framing);
  }
  if (terms.unix_time) append_field(out, "Date", http_date(*terms.unix_time));
  if (!terms.keep_alive) append_field(out, "Connection", "close");
  if (terms.keep_alive && terms.http_1_0) append_field(out, "Connection", "keep-alive");
  for (const Header& header : response.headers) {
    if (is_token(header.name) && !is_framing(header.name)) {
      append_field(out, header.name, header.value);
    }
  }
  out.append("\r\n");
}

std::string http_date(std::int64_t unix_time) {
  constexpr std::array<std::string_view, 7> kDays = {"Sun", "Mon", "Tue", "Wed",
                                                     "Thu", "Fri", "Sat"};
  constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  using std::chrono::days;
  const std::chrono::sys_seconds time{std::chrono::seconds{unix_time}};
  const auto day = std::chrono::floor<days>(time);
  const std::chrono::year_month_day date{day};
  const std::chrono::hh_mm_ss clock{time - day};
  return fmt::format("{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
                     kDays[std::chrono::weekday{day}.c_encoding()], unsigned{date.day()},
                     kMonths[unsigned{date.month()} - 1], int{date.year()}, clock.hours().count(),
                     clock.minutes().count(), clock.seconds().count());
}

}  // namespace conclave::http
