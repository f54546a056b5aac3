#include "conclave/app/run.hpp"
#include "conclave/expert_worker/expert_worker_service.hpp"

int main(int argc, char** argv) {
  return conclave::app::run<conclave::expert_worker::ExpertWorkerService>(argc, argv);
}
