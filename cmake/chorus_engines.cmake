# The clients that brokers are built on. Included by the project and, installed, by its package: a broker's
# target names its client's target, which each machine looks up anew.

# chorus_find_engine(libnats NATS nats nats/nats.h): the target chorus::libnats, and libnats_FOUND. Headers
# are for who builds the broker.
function(chorus_find_engine name upper library header)
  find_path(${upper}_INCLUDE_DIR ${header} DOC "Where ${name}'s headers are (Debian: ${name}-dev)")
  find_library(${upper}_LIBRARY ${library} DOC "${name}, for a broker of chorus")
  mark_as_advanced(${upper}_INCLUDE_DIR ${upper}_LIBRARY)
  set(found OFF)
  if(${upper}_LIBRARY)
    set(found ON)
    if(NOT TARGET chorus::${name})
      # For everybody who links a broker, in whatever directory of a project.
      add_library(chorus::${name} UNKNOWN IMPORTED GLOBAL)
      set_target_properties(chorus::${name} PROPERTIES IMPORTED_LOCATION "${${upper}_LIBRARY}")
      if(${upper}_INCLUDE_DIR)
        set_target_properties(chorus::${name} PROPERTIES
          INTERFACE_INCLUDE_DIRECTORIES "${${upper}_INCLUDE_DIR}")
      endif()
    endif()
  endif()
  set(${name}_FOUND ${found} PARENT_SCOPE)
endfunction()

macro(chorus_find_redis_client)
  chorus_find_engine(libhiredis HIREDIS hiredis hiredis/read.h)
endmacro()
macro(chorus_find_nats_client)
  chorus_find_engine(libnats NATS nats nats/nats.h)
endmacro()
