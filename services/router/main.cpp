#include "conclave/app/run.hpp"
#include "conclave/router/router_service.hpp"

int main(int argc, char** argv) {
  return conclave::app::run<conclave::router::RouterService>(argc, argv);
}
