#include "conclave/app/run.hpp"
#include "conclave/gateway/gateway_service.hpp"

int main(int argc, char** argv) {
  return conclave::app::run<conclave::gateway::GatewayService>(argc, argv);
}
