#include "conclave/app/run.hpp"
#include "conclave/scheduler/scheduler_service.hpp"

int main(int argc, char** argv) {
  return conclave::app::run<conclave::scheduler::SchedulerService>(argc, argv);
}
