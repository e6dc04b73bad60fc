"""The commands, one a module: parse, call one public function, print."""
