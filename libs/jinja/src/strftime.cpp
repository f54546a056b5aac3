#include "strftime.hpp"

#include <array>
#include <cstdint>

namespace conclave::jinja {
namespace {

constexpr std::array<std::string_view, 12> kMonths = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};
constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};

struct Fields {
  std::int64_t year = 0;
  unsigned month = 0;
  unsigned day = 0;
  unsigned weekday = 0;
  std::int64_t day_of_year = 0;
  std::int64_t hour = 0;
  std::int64_t minute = 0;
  std::int64_t second = 0;
};

Fields fields_of(std::chrono::sys_seconds time) {
  const auto day = std::chrono::floor<std::chrono::days>(time);
  const std::chrono::year_month_day date(day);
  const std::int64_t seconds = (time - day).count();
  const auto new_year = std::chrono::sys_days(date.year() / std::chrono::January / 1);
  return {static_cast<int>(date.year()),
          static_cast<unsigned>(date.month()),
          static_cast<unsigned>(date.day()),
          std::chrono::weekday(day).c_encoding(),
          (day - new_year).count() + 1,
          seconds / 3600,
          seconds / 60 % 60,
          seconds % 60};
}

std::string padded(std::int64_t number, std::size_t width, char fill = '0') {
  std::string digits = std::to_string(number);
  if (digits.size() < width) digits.insert(0, width - digits.size(), fill);
  return digits;
}

/// Empty if there is no such field.
std::string field_text(const Fields& f, char letter) {
  switch (letter) {
    case 'Y':
      return padded(f.year, 4);
    case 'y':
      return padded(f.year % 100, 2);
    case 'm':
      return padded(f.month, 2);
    case 'd':
      return padded(f.day, 2);
    case 'e':
      return padded(f.day, 2, ' ');
    case 'j':
      return padded(f.day_of_year, 3);
    case 'B':
      return std::string(kMonths[f.month - 1]);
    case 'b':
      return std::string(kMonths[f.month - 1].substr(0, 3));
    case 'A':
      return std::string(kDays[f.weekday]);
    case 'a':
      return std::string(kDays[f.weekday].substr(0, 3));
    case 'H':
      return padded(f.hour, 2);
    case 'I':
      return padded((f.hour + 11) % 12 + 1, 2);
    case 'M':
      return padded(f.minute, 2);
    case 'S':
      return padded(f.second, 2);
    case 'p':
      return f.hour < 12 ? "AM" : "PM";
    case 'F':
      return padded(f.year, 4) + "-" + padded(f.month, 2) + "-" + padded(f.day, 2);
    case 'T':
      return padded(f.hour, 2) + ":" + padded(f.minute, 2) + ":" + padded(f.second, 2);
    case '%':
      return "%";
    default:
      return {};
  }
}

}  // namespace

std::string format_time(std::chrono::sys_seconds time, std::string_view format) {
  const Fields fields = fields_of(time);
  std::string out;
  for (std::size_t i = 0; i < format.size(); ++i) {
    const bool field = format[i] == '%' && i + 1 < format.size();
    const std::string text = field ? field_text(fields, format[i + 1]) : std::string();
    if (text.empty()) {
      out.push_back(format[i]);
    } else {
      out += text;
      ++i;
    }
  }
  return out;
}

}  // namespace conclave::jinja
