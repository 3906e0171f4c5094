from bench.gateway.bench import main

raise SystemExit(main())
