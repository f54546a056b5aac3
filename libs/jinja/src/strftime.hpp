// Dates for strftime_now(): the C locale, no time zone of its own.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

namespace conclave::jinja {

/// Knows %Y %y %m %d %e %j %b %B %a %A %H %I %M %S %p %F %T and %%; leaves others as they are.
std::string format_time(std::chrono::sys_seconds time, std::string_view format);

}  // namespace conclave::jinja
