"""Messages to people: what began to fail, went well again, is late or was refused."""
