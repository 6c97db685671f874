using System.Runtime.CompilerServices;

// The tests and the replayer of operation scripts pass NULL handles on, which programs have no way to.
[assembly: InternalsVisibleTo("replay_csharp")]
[assembly: InternalsVisibleTo("kvc_tests")]
