#include "conclave/app/run.hpp"
#include "conclave/registry/registry_service.hpp"

int main(int argc, char** argv) {
  return conclave::app::run<conclave::registry::RegistryService>(argc, argv);
}
