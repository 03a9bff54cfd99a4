# Runs COMMAND, whose words are separated by spaces: it has to end with STATUS and to print something that the
# regular expression SAYS matches.
separate_arguments(words UNIX_COMMAND "${COMMAND}")
execute_process(COMMAND ${words} RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(NOT status EQUAL "${STATUS}" OR NOT said MATCHES "${SAYS}")
  message(FATAL_ERROR
    "ended with ${status} instead of ${STATUS}, or did not print \"${SAYS}\":\n${said}")
endif()
