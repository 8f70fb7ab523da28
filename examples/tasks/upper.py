"""A worker: `appm add -a upper -c "python3 $PWD/upper.py"`, then `appm task send upper hello`."""

from appm import serve

serve(lambda data: data.upper())
