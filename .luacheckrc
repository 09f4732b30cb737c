-- For the scripts as the server gets them: with their includes, and places for names.
std = 'lua51'
read_globals = {'redis', 'KEYS', 'ARGV', 'bit', 'struct'}
max_line_length = 160
unused_args = true
ignore = {
  -- Functions of includes, which not every script needs.
  '211/(count|deadLetter|each|hasPolicies|hold|must|nextArg|nextKey|now|putBack|release|removeWaiting)',
}
