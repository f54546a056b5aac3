// The one place of the libraries that reads the calendar: everything else is given a clock.
#pragma once

#include <chrono>

namespace conclave::app {

std::chrono::system_clock::time_point wall_clock();

}  // namespace conclave::app
