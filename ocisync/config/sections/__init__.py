"""The sections of the configuration file as models: one file for each, put together by `config.models`."""
