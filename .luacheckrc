-- For the scripts as the server gets them: with their includes, and places for names.
std = 'lua51'
read_globals = {'redis', 'KEYS', 'ARGV', 'bit', 'struct', 'cmsgpack'}
max_line_length = 160
ignore = { -- functions of includes, which not every script needs
  '211/count', '211/deadLetter', '211/each', '211/kindOf', '211/listOf', '211/must', '211/nextArg', '211/nextKey', '211/now', '211/take',
  '211/typeOf',
}
